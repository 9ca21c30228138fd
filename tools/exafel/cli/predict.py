"""The command `exafel predict`."""

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


def predict(
    stage1: Annotated[Path, typer.Option("--stage1", "-i", help="Folder of the stage1 step.")],
    mtz: Annotated[Path | None, typer.Option("--mtz", help="Amplitudes. Default: those of stage 1.")] = None,
    out: OutOption = Path("predict"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Predict the reflections of each refined shot, and integrate them."""
    from exafel.steps import predict as step

    request = step.request(load_config(config, overrides).predict, stage1, out, mtz)
    run_step(step, request, as_json=as_json, dry_run=dry_run, ranks=ranks)
