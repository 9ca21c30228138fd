"""The command `exafel launch`: a step's command with the facility's ranks, binding and environment around it."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer


def launch(
    command: Annotated[list[str], typer.Argument(help="What to run: -- exafel stills ...")],
    facility: Annotated[
        str, typer.Option("--facility", "-f", help="Name of a facility, or a facility.yaml.")
    ] = "local",
    step: Annotated[str, typer.Option("--step", "-s", help="Step, whose layout the facility has.")] = "stills",
    ntasks: Annotated[int | None, typer.Option("--ntasks", "-n", min=1, help="Ranks. Default: by the rest.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", "-N", min=1, help="Nodes. Default: those of the job.")] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Images, to choose ranks by.")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="Environment of the facility, not its usual one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, and do nothing.")] = False,
) -> None:
    """Run a step's command as the facility runs it: ranks, nodes, GPUs, binding, memory, environment."""
    from exafel.facility.launch import compose, run
    from exafel.facility.load import load_site

    composed = compose(
        load_site(facility),
        step,
        command,
        images=images,
        nodes=nodes,
        ranks=ntasks,
        environment=environment or os.environ.get("EXAFEL_ENVIRONMENT"),
    )
    if dry_run:
        variables = [f"{key}={shlex.quote(value)}" for key, value in composed.variables.items()]
        sys.stdout.write(" ".join([*variables, shlex.join(composed.words)]) + "\n")
        return
    run(composed)
