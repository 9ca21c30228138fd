"""The command `exafel stage1`."""

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

MtzOption = Annotated[
    Path, typer.Option("--mtz", help="Merged intensities or amplitudes: an MTZ file, or the folder of a merge step.")
]


def stage1(
    stills: Annotated[list[Path], typer.Option("--stills", "-i", help="Folder of the stills step; repeatable.")],
    mtz: MtzOption,
    out: OutOption = Path("stage1"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Refine orientation, cell, block size and scale of each shot against the pixels of its spots."""
    from exafel.steps import stage1 as step

    request = step.request(load_config(config, overrides).stage1, stills, mtz, out)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)
