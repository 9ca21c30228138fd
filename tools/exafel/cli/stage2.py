"""The command `exafel stage2`."""

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
from exafel.cli.stage1 import MtzOption


def stage2(
    predict: Annotated[Path, typer.Option("--predict", "-i", help="Folder of the predict step.")],
    mtz: MtzOption,
    out: OutOption = Path("stage2"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    memory_gb: Annotated[
        float | None, typer.Option("--memory-gb", help="Memory of a rank for shots, over the configuration's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the checkpoint of a killed run, or start anew.")
    ] = True,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Refine structure factors, Bijvoet mates apart, against the pixels of all shots."""
    from exafel.steps import stage2 as step

    if memory_gb is not None:
        overrides = [*(overrides or []), f"stage2.memory_gb={memory_gb}"]
    request = step.request(load_config(config, overrides).stage2, predict, mtz, out)
    if not resume and not dry_run:
        step.forget(request)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)
