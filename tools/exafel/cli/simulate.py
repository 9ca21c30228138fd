"""Make data with known truth."""

from __future__ import annotations

from typing import Annotated

import typer

from exafel.cli.common import ConfigOption, DryRunOption, JsonOption, OutOption, RanksOption, SetOption, run_step

NumberOption = Annotated[
    int | None, typer.Option("--n", help="Number of images, in place of the configuration's.", min=1)
]

app = typer.Typer(help="Make data with known truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make data with known truth."""


@app.command()
def sfx(
    out: OutOption,
    n: NumberOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Simulate still images of protein crystals, one NXmx file a rank, with the truth beside them."""
    from exafel.cli.common import load_config
    from exafel.config.simulate import SimulateSfxConfig
    from exafel.steps import simulate

    section = load_config(config, overrides).simulate or SimulateSfxConfig()
    if n is not None:
        section = section.model_copy(update={"n_shots": n})
    run_step(simulate, simulate.request(section, out), as_json=as_json, dry_run=dry_run, ranks=ranks)


@app.command()
def spi(
    out: OutOption,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Simulate shots of single particles, one HDF5 file a rank with Spinifel's names, with the truth in it."""
    from exafel.cli.common import load_config
    from exafel.config.simulate_spi import SimulateSpiConfig
    from exafel.steps import simulate_spi

    section = load_config(config, overrides).simulate_spi or SimulateSpiConfig()
    run_step(simulate_spi, simulate_spi.request(section, out), as_json=as_json, dry_run=dry_run, ranks=ranks)
