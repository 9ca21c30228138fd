"""Options that every step's command has, and the one way from a request to its output and exit code."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exafel.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from exafel.config.workflow import WorkflowConfig
    from exafel.steps.base import StepRequest

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration, YAML. Default: every parameter's default.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as merge.d_min=2.0.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")]
RanksOption = Annotated[
    int, typer.Option("--ranks", "-j", min=1, help="Local processes, where no mpiexec or srun starts the ranks.")
]


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """Turn ``KEY=VALUE`` texts into keys and YAML values.

    Raises
    ------
    ConfigError
        A text has no ``=``, or its value is not YAML.
    """
    import yaml

    result: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {pair}: write it as KEY=VALUE")
        try:
            result[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: the value is not valid YAML: {text}") from error
    return result


def load_config(config: Path | None, overrides: list[str] | None) -> WorkflowConfig:
    """Read the configuration with the command line's overrides on it."""
    from exafel.config.workflow import load_workflow_config

    return load_workflow_config(config, parse_overrides(overrides))


def run_step(
    step: ModuleType,
    request: StepRequest,
    *,
    as_json: bool,
    dry_run: bool,
    ranks: int = 1,
    options: dict[str, Any] | None = None,
) -> None:
    """Run a step, or say what it would do, and print the summary on rank 0.

    Parameters
    ----------
    step
        Module of `exafel.steps`.
    request
        What to do.
    as_json
        Print JSON on stdout instead of a table on stderr.
    dry_run
        Only say what would be done.
    ranks
        Local processes.
    options
        Keyword arguments for the step's run beyond its request.
    """
    from exafel.cli.console import StepConsole
    from exafel.parallel.launch import launch
    from exafel.parallel.mpi import launched_rank
    from exafel.steps.base import plan

    if dry_run:
        if launched_rank() == 0:
            sys.stdout.write(json.dumps(plan(request), indent=2) + "\n")
        return
    console = StepConsole()
    function = partial(step.run, **options) if options else step.run
    summary = launch(function, request, ranks=ranks, rank0={"hooks": console.hooks()})
    if launched_rank() == 0:
        if as_json:
            sys.stdout.write(json.dumps(summary.model_dump(mode="json")) + "\n")
        else:
            console.show_summary(request.step, summary.model_dump(mode="json"), request.out)
