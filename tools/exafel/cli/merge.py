"""The command `exafel merge`."""

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


def merge(
    stills: Annotated[
        list[Path],
        typer.Option("--stills", "-i", help="Folder of the stills step or of DIALS files, or .expt file; repeatable."),
    ],
    out: OutOption = Path("merge"),
    onto: Annotated[
        Path | None, typer.Option("--onto", help="Folder of an earlier merge that these new lattices are added to.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Merge integrated lattices: filter, correct, scale, group, fit errors, merge, and say how good the data are."""
    from exafel.steps import merge as step

    request = step.request(load_config(config, overrides).merge, stills, out, onto=onto)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)
