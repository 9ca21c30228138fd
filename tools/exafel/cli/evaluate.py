"""Figures of merit against truth."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from exafel.cli import spi
from exafel.cli.common import ConfigOption, DryRunOption, JsonOption, SetOption, load_config, run_step

app = typer.Typer(help="Figures of merit against truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Figures of merit against truth."""


app.command("spi")(spi.evaluate)


@app.command()
def sfx(
    stills: Annotated[list[Path], typer.Option("--stills", help="Folder of a stills step, or an .expt file.")],
    truth: Annotated[Path, typer.Option("--truth", help="Folder of a simulate step, or a file of truth.")],
    merge: Annotated[Path | None, typer.Option("--merge", help="Folder of a merge step, or its MTZ.")] = None,
    stage1: Annotated[Path | None, typer.Option("--stage1", help="Folder of a stage1 step.")] = None,
    stage2: Annotated[Path | None, typer.Option("--stage2", help="Folder of a stage2 step.")] = None,
    mtz: Annotated[Path | None, typer.Option("--mtz", help="True amplitudes. Default: the truth folder's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for evaluation.json. Default: none.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    equivalence: Annotated[
        Literal["laue", "lattice"] | None,
        typer.Option(help="Indexings that count as the same orientation, over the configuration's."),
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Compare lattices, and merged intensities, with the truth that the images were simulated from."""
    from exafel.steps import evaluate

    if equivalence is not None:
        overrides = [*(overrides or []), f"evaluate.equivalence={equivalence}"]
    section = load_config(config, overrides).evaluate
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if out is None else out
        folders = {"merge": merge, "stage1": stage1, "stage2": stage2}
        request = evaluate.request(section, tuple(stills), truth, folder, mtz=mtz, **folders)
        run_step(evaluate, request, as_json=as_json, dry_run=dry_run)
