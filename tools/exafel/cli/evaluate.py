"""Figures of merit against truth."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from exafel.cli.common import DryRunOption, JsonOption, run_step

app = typer.Typer(help="Figures of merit against truth.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Figures of merit against truth."""


@app.command()
def sfx(
    stills: Annotated[list[Path], typer.Option("--stills", help="Folder of a stills step, or an .expt file.")],
    truth: Annotated[Path, typer.Option("--truth", help="Folder of a simulate step, or a file of truth.")],
    merge: Annotated[Path | None, typer.Option("--merge", help="Folder of a merge step, or its MTZ.")] = None,
    mtz: Annotated[Path | None, typer.Option("--mtz", help="True amplitudes. Default: the truth folder's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for evaluation.json. Default: none.")] = None,
    equivalence: Annotated[
        Literal["laue", "lattice"], typer.Option(help="Indexings that count as the same orientation.")
    ] = "laue",
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Compare lattices, and merged intensities, with the truth that the images were simulated from."""
    from exafel.config.evaluate import EvaluateSfxConfig
    from exafel.steps import evaluate

    config = EvaluateSfxConfig(equivalence=equivalence)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if out is None else out
        request = evaluate.request(config, tuple(stills), truth, folder, merge=merge, mtz=mtz)
        run_step(evaluate, request, as_json=as_json, dry_run=dry_run)
