"""The command `exafel stills`."""

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
from exafel.errors import ConfigError


def stills(
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", "-i", help="Image file or folder of them; repeatable. Default: the configuration's."),
    ] = None,
    out: OutOption = Path("stills"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    engine: Annotated[str | None, typer.Option("--engine", help="native or dials, over the configuration's.")] = None,
    first_pass: Annotated[
        bool,
        typer.Option("--first-pass", help="The first of two passes: some shots, without a cell, for exafel cells."),
    ] = False,
    cells: Annotated[
        Path | None,
        typer.Option("--cells", help="The second of two passes: index with the consensus cell of these results."),
    ] = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
    ranks: RanksOption = 1,
) -> None:
    """Process still shots: find spots, index, refine and integrate, and say what became of every shot."""
    from exafel.steps import stills as step

    if first_pass and cells is not None:
        raise ConfigError("--first-pass finds what --cells reads", hint="give one of the two")
    if engine is not None:
        overrides = [*(overrides or []), f"stills.engine={engine}"]
    loaded = load_config(config, overrides)
    paths = images or [Path(name) for name in loaded.images]
    if not paths:
        raise ConfigError("no images", hint="give --images, or images in the configuration")
    parameters = loaded.stills
    if first_pass:
        parameters = parameters.first_pass()
    elif cells is not None:
        parameters = parameters.second_pass(cells)
    run_step(step, step.request(parameters, paths, out), as_json=as_json, dry_run=dry_run, ranks=ranks)
