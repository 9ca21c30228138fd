"""The one true command of a step: geometry, binding and environment around what is to run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exafel.errors import ConfigError
from exafel.facility.environments import Environment, TarballEnvironment, VenvEnvironment
from exafel.facility.geometry import Geometry, geometry
from exafel.facility.site import Site, SrunLauncher

# When a launcher was started, for ranks that count how long they took to begin (exafel.parallel.startup reads it).
LAUNCHED = "EXAFEL_LAUNCHED"
REHEARSAL_RANKS = "EXAFEL_REHEARSAL_RANKS_PER_NODE"
DEPLOYED = "EXAFEL_ENV"
# Nodes of the job that a step keeps to, where several share one job.
NODE_LIST = "EXAFEL_NODES"
_LOCAL_RANKS = ("--ranks", "-j")


@dataclass(frozen=True)
class Launch:
    """A command and the variables that it needs."""

    words: tuple[str, ...]
    variables: Mapping[str, str]


def find_environment(site: Site, name: str | None) -> Environment:
    """Return an environment of the facility, its usual one without a name.

    Raises
    ------
    ConfigError
        It has none of this name.
    """
    found = site.environments.get(name or site.environment)
    if found is None:
        raise ConfigError(f"no environment '{name}', but {', '.join(site.environments)}", where=site.facility)
    return found


def allocated_nodes(environ: Mapping[str, str] = os.environ) -> int | None:
    """Nodes of the job that this process runs in, or may use of it; None outside a job."""
    if environ.get(NODE_LIST):
        return len(environ[NODE_LIST].split(","))
    text = environ.get("SLURM_JOB_NUM_NODES", "")
    return int(text) if text.isdigit() else None


def compose(
    site: Site,
    step: str,
    command: Sequence[str],
    *,
    images: int | None = None,
    nodes: int | None = None,
    ranks: int | None = None,
    environment: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """Compose the command that runs a step at a facility.

    Parameters
    ----------
    site
        The facility.
    step
        Name of the step.
    command
        What to run; its own ``--ranks`` is replaced by the ranks that the launcher starts.
    images, nodes, ranks
        What is known or wanted; see `exafel.facility.geometry.geometry`. Nodes default to those of the job.
    environment
        Name of an environment of the facility, other than its usual one.
    environ
        Variables of this process.

    Raises
    ------
    ConfigError
        There is no command, or the step does not fit the facility.
    """
    if not command:
        raise ConfigError("no command", hint="exafel launch --facility F --step S -- exafel stills ...")
    chosen = find_environment(site, environment)
    few = environ.get(REHEARSAL_RANKS)
    shape = geometry(
        site,
        step,
        images=images,
        nodes=nodes or allocated_nodes(environ),
        ranks=ranks,
        at_most_a_node=int(few) if few else None,
    )
    if not isinstance(site.launcher, SrunLauncher):
        return Launch(tuple(command) if ranks is None else (*_without_ranks(command), "--ranks", str(ranks)), {})
    inner = _inside(chosen, _without_ranks(command), shape, environ)
    device = site.launcher.device_variable
    if device and shape.gpus_per_node:
        a_gpu = max(1, -(-shape.ranks_per_node // shape.gpus_per_node))
        inner = ["sh", "-c", f'export {device}=$((SLURM_LOCALID / {a_gpu})); exec "$@"', "sh", *inner]
    words = _srun(site.launcher, shape)
    if environ.get(NODE_LIST):
        chosen_nodes = environ[NODE_LIST].split(",")[: shape.nodes]
        words.append(f"--nodelist={','.join(chosen_nodes)}")
    return Launch((*words, *inner), site.launcher.variables)


def _srun(launcher: SrunLauncher, shape: Geometry) -> list[str]:
    words = ["srun", f"--nodes={shape.nodes}", f"--ntasks={shape.ranks}", f"--ntasks-per-node={shape.ranks_per_node}"]
    words += [f"--cpus-per-task={shape.cpus_per_rank}", f"--mem={round(shape.memory_gb_per_node * 1000)}M", "--exact"]
    words += ["--threads-per-core=1", "--kill-on-bad-exit=1"]
    if shape.gpus_per_node:
        words.append(f"--gpus-per-node={shape.gpus_per_node}")
        words += [f"--gpu-bind={launcher.gpu_bind}"] if launcher.gpu_bind else []
    words += [f"--cpu-bind={launcher.cpu_bind}"] if launcher.cpu_bind else []
    words += [f"--mpi={launcher.mpi}"] if launcher.mpi else []
    return [*words, *launcher.options]


def _inside(environment: Environment, command: list[str], shape: Geometry, environ: Mapping[str, str]) -> list[str]:
    """Put the environment around a command."""
    if isinstance(environment, VenvEnvironment):
        return command
    if isinstance(environment, TarballEnvironment):
        root = environ.get(DEPLOYED)
        if not root:
            hint = "exafel env deploy, first thing in the job, prints it"
            raise ConfigError(f"the environment is not on the nodes yet: {DEPLOYED} is not set", hint=hint)
        return [str(Path(root) / "bin" / "exafel-env"), *command]
    return [*environment.command(gpus=shape.gpus_per_node > 0), *command]


def _without_ranks(command: Sequence[str]) -> list[str]:
    """Drop ``--ranks N``: ranks of a launcher take the place of local ones."""
    words, skip = [], False
    for word in command:
        if skip or word in _LOCAL_RANKS:
            skip = not skip
        elif not word.startswith("--ranks="):
            words.append(word)
    return words


def run(launch: Launch) -> None:
    """Become the launched command: signals and exit code are its own.

    Raises
    ------
    ConfigError
        The program is not there.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        variables = {**os.environ, **launch.variables, LAUNCHED: repr(time.time())}
        os.execvpe(launch.words[0], launch.words, variables)  # noqa: S606 - no shell is wanted
    except FileNotFoundError as error:
        raise ConfigError("no such program", where=launch.words[0]) from error
