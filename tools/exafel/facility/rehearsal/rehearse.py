"""A rehearsal from beginning to end: the cluster, the command on it, the scenario, and what the accounting says."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exafel.errors import ConfigError, EngineError
from exafel.facility.deploy import SUBFOLDER
from exafel.facility.launch import DEPLOYED
from exafel.facility.load import PROFILES_VARIABLE, profiles_folder
from exafel.facility.rehearsal.cluster import Cluster
from exafel.facility.rehearsal.nodes import local_disks
from exafel.facility.rehearsal.scenarios import SCENARIOS, Story, acting, prepare
from exafel.facility.site import Site

_FIELDS = "JobID,JobName%28,Partition,Account,QOS,NNodes,NTasks,AllocTRES%60,State%14,Elapsed"


@dataclass(frozen=True)
class Rehearsed:
    """What came of a rehearsal.

    Parameters
    ----------
    returncode
        Of the command.
    story
        What the scenario did.
    accounting
        Jobs and steps, as `sacct` has them.
    disks
        What lies in the software's folder on each node's own disks, by node.
    """

    returncode: int
    story: tuple[str, ...]
    accounting: str
    disks: dict[str, str]


def rehearse(
    site: Site,
    command: Sequence[str],
    *,
    scenario: str = "normal",
    nodes: int = 4,
    ranks_a_node: int = 1,
    after_s: float = 5.0,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201 - the default voice
) -> Rehearsed:
    """Run a command on a real Slurm that is shaped like a facility.

    Parameters
    ----------
    site
        The facility.
    command
        What to run, in this folder, with profiles and all unchanged.
    scenario
        What goes wrong; a key of `SCENARIOS`.
    nodes, ranks_a_node
        Virtual nodes of each kind, and most ranks on one.
    after_s
        Seconds that a job of the command runs before the scenario strikes.
    say
        Takes each line of the story.

    Raises
    ------
    ConfigError
        There is no such scenario or command, or this machine cannot rehearse.
    EngineError
        The scenario could not be played.
    """
    if scenario not in SCENARIOS:
        raise ConfigError(f"no scenario '{scenario}', but {', '.join(SCENARIOS)}")
    if not command:
        raise ConfigError("no command", hint="exafel facility rehearse F -- snakemake --profile profiles/F ...")
    keep = tuple(dict.fromkeys((Path.cwd(), Path(sys.prefix).resolve(), profiles_folder().resolve())))
    with Cluster(site, nodes=nodes, ranks_a_node=ranks_a_node, keep=keep) as cluster:
        story = Story(say)
        story.tell(f"{len(cluster.shape.nodes)} virtual nodes of {site.title} are up")
        variables = prepare(scenario, cluster, story)
        environment = {**cluster.environment, **variables, PROFILES_VARIABLE: str(profiles_folder())}
        environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environment["PATH"]])
        environment.pop(DEPLOYED, None)
        with acting(scenario, cluster, story, after_s) as faults:
            try:
                returncode = subprocess.run(command, env=environment, check=False).returncode
            except FileNotFoundError as error:
                raise ConfigError("no such program", where=command[0]) from error
        story.tell(f"the command has ended with {returncode}")
        if faults:
            raise EngineError(f"the scenario could not be played: {faults[0]}")
        accounting = cluster.run("sacct", "-D", "-S", "now-1days", f"--format={_FIELDS}")
        return Rehearsed(returncode, tuple(story.lines), accounting, _on_disks(cluster))


def _on_disks(cluster: Cluster) -> dict[str, str]:
    found = {}
    for node in cluster.shape.nodes:
        folders = " ".join(f"{disk}/*/{SUBFOLDER}/* {disk}/{SUBFOLDER}/*" for disk in local_disks(cluster.shape))
        listed = cluster.on_node(node.name, f"ls -d {folders} 2> /dev/null", check=False).split()
        if listed:
            found[node.name] = " ".join(listed)
    return found
