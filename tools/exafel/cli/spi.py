"""The commands `exafel spi`: from shots of single particles to densities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exafel.cli.common import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    OutOption,
    RanksOption,
    SetOption,
    load_config,
    run_step,
)

app = typer.Typer(help="Single-particle imaging.", no_args_is_help=True)
ImagesOption = Annotated[
    list[Path], typer.Option("--images", "-i", help="HDF5 file with Spinifel's names, or a folder; repeatable.")
]


@app.command()
def hits(
    images: ImagesOption,
    out: OutOption = Path("spi_hits"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Find the shots that show one particle."""
    from exafel.steps import spi_hits as step

    request = step.request(load_config(config, overrides).spi_hits, images, out)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)


@app.command()
def reconstruct(
    images: ImagesOption,
    hits: Annotated[Path | None, typer.Option("--hits", help="Folder of a spi hits step: only single hits.")] = None,
    out: OutOption = Path("spi_reconstruct"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: Annotated[
        int | None, typer.Option("--until", min=1, help="End after so many generations; the next run goes on there.")
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Find orientations, conformations and densities, ab initio, generation after generation."""
    from exafel.steps import spi_reconstruct as step

    request = step.request(load_config(config, overrides).spi_reconstruct, images, out, hits=hits)
    options = {} if until is None else {"until": until}
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks, options=options)


def evaluate(
    reconstruction: Annotated[Path, typer.Option("--reconstruction", "-r", help="Folder of a spi reconstruct step.")],
    images: ImagesOption,
    out: OutOption = Path("spi_evaluate"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Compare a reconstruction with the truth: orientations, classes, Fourier shell correlation."""
    from exafel.steps import spi_evaluate as step

    request = step.request(load_config(config, overrides).spi_evaluate, reconstruction, images, out)
    run_step(step, request, as_json=as_json, dry_run=dry_run)


app.command("evaluate")(evaluate)
