"""Show, export and explain the configuration."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from exafel.cli.common import ConfigOption, SetOption, load_config

app = typer.Typer(help="Show, export and explain the configuration.", no_args_is_help=True)


@app.command()
def show(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Print the whole configuration with every default resolved, as YAML."""
    import yaml

    resolved = load_config(config, overrides).model_dump(mode="json")
    sys.stdout.write(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    from exafel.config.workflow import WorkflowConfig

    sys.stdout.write(json.dumps(WorkflowConfig.model_json_schema(), indent=2) + "\n")


@app.command()
def explain(key: Annotated[str, typer.Argument(help="Dotted key, such as stills.spotfinding.gain.")]) -> None:
    """Print what a key means, its type and its default."""
    from exafel.config.explain import explain_key
    from exafel.config.workflow import WorkflowConfig

    sys.stdout.write(explain_key(WorkflowConfig, key) + "\n")
