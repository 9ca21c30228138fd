"""The command `exafel cells`."""

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


def cells(
    stills: Annotated[
        list[Path],
        typer.Option("--stills", "-i", help="Folder of the stills step or of DIALS files, or .expt file; repeatable."),
    ],
    out: OutOption = Path("cells"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Unit cells over all lattices: clusters with mean and covariance, and a table with one row a lattice."""
    from exafel.steps import cells as step

    request = step.request(load_config(config, overrides).cells, stills, out)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)
