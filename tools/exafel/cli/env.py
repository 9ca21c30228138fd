"""The commands `exafel env`: pack the environment, bring it to the nodes of a job, say what is packed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exafel.cli.common import JsonOption
from exafel.errors import ConfigError

if TYPE_CHECKING:
    from exafel.facility.environments import TarballEnvironment

app = typer.Typer(help="The environment as an archive: pack it, bring it to nodes.", no_args_is_help=True)

FacilityOption = Annotated[str, typer.Option("--facility", "-f", help="A facility, or a facility.yaml.")]
EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", "-e", help="Environment of the facility. Default: its usual one.")
]


def _tarball(facility: str, environment: str | None) -> TarballEnvironment:
    from exafel.facility.environments import TarballEnvironment
    from exafel.facility.launch import find_environment
    from exafel.facility.load import load_site

    found = find_environment(load_site(facility), environment)
    if not isinstance(found, TarballEnvironment):
        raise ConfigError(f"the environment is '{found.type}': nothing to pack", where=facility)
    return found


def _folder(kind: TarballEnvironment) -> Path:
    import os

    return Path(os.path.expandvars(kind.archive)).absolute()


@app.command()
def pack(
    facility: FacilityOption,
    environment: EnvironmentOption = None,
    force: Annotated[bool, typer.Option("--force", help="Pack what has not changed, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack this Python's environment: a base, and over it this software; only what has changed since last time."""
    from exafel.facility.pack import pack as pack_it

    packed, fresh = pack_it(_folder(_tarball(facility, environment)), force=force)
    if as_json:
        sys.stdout.write(json.dumps({"fresh": fresh, **packed.model_dump(mode="json")}) + "\n")
        return
    for layer in packed.layers:
        state = f"packed in {layer.seconds:.1f} s" if layer.name.split("-")[0] in fresh else "up to date"
        sys.stdout.write(
            f"{layer.name}: {layer.files} files, {layer.size_mb} MB, {layer.packed_mb} MB packed; {state}\n"
        )


@app.command()
def deploy(
    facility: FacilityOption,
    environment: EnvironmentOption = None,
    shell: Annotated[bool, typer.Option("--shell", help="Print a line of shell that sets EXAFEL_ENV.")] = False,
) -> None:
    """Bring the environment to the nodes of this job, packed anew if need be; what is there already is left."""
    from exafel.facility.deploy import deploy as deploy_it
    from exafel.facility.deploy import say
    from exafel.facility.pack import pack as pack_it

    kind = _tarball(facility, environment)
    packed, _ = pack_it(_folder(kind))
    done = deploy_it(packed, _folder(kind), kind)
    say(done, packed.layers)
    sys.stdout.write(f"export EXAFEL_ENV={shlex.quote(done.path)}\n" if shell else f"{done.path}\n")


@app.command()
def info(facility: FacilityOption, environment: EnvironmentOption = None) -> None:
    """Print what is packed and how it went to nodes, as JSON."""
    from exafel.facility.pack import describe

    sys.stdout.write(json.dumps(describe(_folder(_tarball(facility, environment))), indent=2) + "\n")
