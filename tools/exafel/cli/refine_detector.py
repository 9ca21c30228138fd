"""The command `exafel refine-detector`."""

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


def refine_detector(
    stills: Annotated[list[Path], typer.Option("--stills", "-i", help="Folder of the stills step; repeatable.")],
    out: OutOption = Path("refine_detector"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Refine the detector's geometry jointly with many indexed lattices; write it for the next run of stills."""
    from exafel.config.refine_detector import RefineDetectorConfig
    from exafel.steps import refine_detector as step

    section = load_config(config, overrides).refine_detector or RefineDetectorConfig()
    run_step(step, step.request(section, stills, out), as_json=as_json, dry_run=dry_run, ranks=ranks)
