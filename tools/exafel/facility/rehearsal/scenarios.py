"""What goes wrong, or not, while a command runs on a rehearsal: a scenario acts on real Slurm and says what it did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from exafel.errors import ConfigError, ExafelError
from exafel.facility.environments import TarballEnvironment
from exafel.facility.rehearsal.cluster import Cluster
from exafel.facility.rehearsal.conf import URGENT
from exafel.facility.rehearsal.nodes import local_disks

RESERVATION = "beamtime"
_URGENT_S = 5


@dataclass
class Story:
    """What a scenario did, line by line, with the seconds since the command began."""

    say: Callable[[str], None]
    ended: threading.Event = field(default_factory=threading.Event)
    start: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """Add a line."""
        line = f"[{time.monotonic() - self.start:6.1f} s] {text}"
        self.lines.append(line)
        self.say(line)

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 300) -> bool:
        """Wait for something while the command runs; False where it ended first."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.ended.wait(0.5):
                return False
            if time.monotonic() > deadline:
                raise ExafelError(f"the scenario waited {seconds:g} s in vain for {what}")
        return True


Scenario = Callable[[Cluster, Story, float], None]


def running_job(cluster: Cluster, seconds: float) -> tuple[str, list[str]] | None:
    """Return a job that has run so many seconds, with its nodes; None where there is none yet."""
    now = time.time()
    for row in cluster.run("squeue", "-h", "-t", "R", "-o", "%A|%q|%S|%N").splitlines():
        job, qos, begun, names = row.split("|")
        if qos != URGENT and now - time.mktime(time.strptime(begun, "%Y-%m-%dT%H:%M:%S")) >= seconds:
            return job, cluster.run("scontrol", "show", "hostnames", names).split()
    return None


def _when_running(cluster: Cluster, story: Story, seconds: float) -> tuple[str, list[str]] | None:
    found: list[tuple[str, list[str]]] = []

    def look() -> bool:
        job = running_job(cluster, seconds)
        found.extend([job] if job else [])
        return job is not None

    story.wait("a job to run", look)
    return found[0] if found else None


def urgent_job(cluster: Cluster, nodes: list[str], seconds: int, *options: str) -> str:
    """Submit a job that ends others on its nodes; return its id."""
    account = next((item.account for item in cluster.shape.scheduler.classes.values() if item.account), "default")
    words = ["sbatch", "--parsable", f"--account={account}", f"--qos={URGENT}", f"--nodelist={','.join(nodes)}"]
    partition = next(
        item.name for item in cluster.shape.scheduler.partitions if cluster.find(nodes[0]).kind in item.nodes
    )
    words += [f"--partition={partition}", f"--nodes={len(nodes)}", "--exclusive", "--time=5", "--output=/dev/null"]
    return cluster.run(*words, *options, f"--wrap=sleep {seconds}").strip()


def state_of(cluster: Cluster, job: str) -> str:
    """State of a job as the accounting has it; the last of a job that was queued again."""
    rows = cluster.run("sacct", "-n", "-X", "-D", "-P", "-j", job, "-o", "State").split("\n")
    return [row for row in rows if row][-1] if any(rows) else "PENDING"


def _has_left(cluster: Cluster, job: str, *states: str) -> bool:
    return state_of(cluster, job) not in states


def normal(cluster: Cluster, story: Story, after_s: float) -> None:
    """Nothing goes wrong."""


def preempt(cluster: Cluster, story: Story, after_s: float) -> None:
    """An urgent job takes the nodes of a running one."""
    found = _when_running(cluster, story, after_s)
    if found is None:
        return
    job, nodes = found
    urgent = urgent_job(cluster, nodes, _URGENT_S)
    story.tell(f"job {job} runs on {len(nodes)} nodes; urgent job {urgent} wants them")
    story.wait("the urgent job", partial(_has_left, cluster, urgent, "PENDING"))
    story.tell(f"job {job}: {state_of(cluster, job)}; urgent job {urgent}: {state_of(cluster, urgent)}")


def node_loss(cluster: Cluster, story: Story, after_s: float) -> None:
    """The last node of a running job loses its power, and comes back when Slurm has noticed."""
    found = _when_running(cluster, story, after_s)
    if found is None:
        return
    job, nodes = found
    name = nodes[-1]
    cluster.crash(name)
    story.tell(f"job {job} runs on {len(nodes)} nodes; {name} has lost its power")
    story.wait("Slurm to notice", lambda: cluster.states()[name].startswith("down"), 400)
    story.tell(f"{name} is down; job {job}: {state_of(cluster, job)}")
    cluster.boot(cluster.find(name))
    story.tell(f"{name} is booted again, its own disks empty")


def walltime(cluster: Cluster, story: Story, after_s: float) -> None:
    """A running job reaches its time limit."""
    found = _when_running(cluster, story, max(after_s, 1))
    if found is None:
        return
    job, _ = found
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    story.tell(f"job {job} has one minute in all")
    story.wait("its end", partial(_has_left, cluster, job, "RUNNING", "COMPLETING"))
    story.tell(f"job {job}: {state_of(cluster, job)}")


def reservation(cluster: Cluster, story: Story, after_s: float) -> None:
    """All nodes of the command's kind are reserved; it fills what urgent jobs of the beam time leave over."""
    found = _when_running(cluster, story, after_s)
    for burst in range(1, 4):
        if found is None:
            return
        nodes = found[1]
        urgent = urgent_job(cluster, nodes, _URGENT_S, f"--reservation={RESERVATION}")
        begun = time.monotonic()
        story.wait("the beam time's job", partial(_has_left, cluster, urgent, "PENDING"))
        story.tell(f"beam time job {burst} of 3 on {len(nodes)} nodes after {time.monotonic() - begun:.1f} s")
        story.wait("its end", partial(_has_left, cluster, urgent, "RUNNING", "COMPLETING"))
        found = _when_running(cluster, story, after_s)


SCENARIOS: dict[str, Scenario] = {
    "normal": normal,
    "preempt": preempt,
    "reservation": reservation,
    "node-loss": node_loss,
    "walltime": walltime,
    "sbcast-failure": normal,
    "full-disk": normal,
}


def prepare(name: str, cluster: Cluster, story: Story) -> dict[str, str]:
    """Set up what a scenario needs before the command begins; return variables for it.

    Raises
    ------
    ConfigError
        The facility does not do what the scenario breaks.
    """
    disks = local_disks(cluster.shape)
    if name in ("sbcast-failure", "full-disk"):
        site = cluster.shape.site
        if not isinstance(site.environments[site.environment], TarballEnvironment):
            raise ConfigError(
                f"scenario '{name}' is for facilities whose environment is a tarball", where=site.facility
            )
        broken = cluster.shape.nodes[min(1, len(cluster.shape.nodes) - 1)].name
        for disk in disks if name == "full-disk" else disks[:1]:
            (cluster.fill_disk if name == "full-disk" else cluster.break_disk)(broken, Path(disk))
            story.tell(f"{broken}: {disk} {'is full' if name == 'full-disk' else 'cannot be written'}")
    if name == "reservation":
        kind = cluster.shape.nodes[0].kind
        nodes = ",".join(node.name for node in cluster.shape.of_kind(kind))
        options = ["starttime=now", "duration=60", f"nodes={nodes}", "users=root", "flags=ignore_jobs"]
        cluster.run("scontrol", "create", "reservation", f"reservationname={RESERVATION}", *options)
        story.tell(f"reservation '{RESERVATION}' over {nodes}; the command's jobs fill it")
        return {"SBATCH_RESERVATION": RESERVATION}
    return {}


@contextmanager
def acting(name: str, cluster: Cluster, story: Story, after_s: float) -> Iterator[list[Exception]]:
    """Act beside the block; the list has what went wrong with the scenario itself."""
    faults: list[Exception] = []

    def act() -> None:
        try:
            SCENARIOS[name](cluster, story, after_s)
        except (ExafelError, OSError) as error:
            faults.append(error)

    thread = threading.Thread(target=act, name=f"scenario-{name}")
    thread.start()
    try:
        yield faults
    finally:
        story.ended.set()
        thread.join()
