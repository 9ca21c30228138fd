"""What a worker in a pilot does: run one command, watch its time, and say how it went."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_GRACE_S = 60
_TIMED_OUT = 124
_ANSWER_S = 60
_LOST_NODE_S = 900
# Linux counts the memory of the process that starts a program as the program's own (getrusage(2): the largest resident
# set of before exec stays), so a small process stands between. It outlives a request to end, to tell how that went.
_MEASURE = """
import json, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
report, words = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(report, False)
try:
    pid = os.posix_spawnp(words[0], words, os.environ, setsigdef=[signal.SIGTERM])
except OSError as error:
    print(f"{words[0]}: {error.strerror}", file=sys.stderr)
    sys.exit(127)
_, status, usage = os.wait4(pid, 0)
ended = {
    "returncode": os.waitstatus_to_exitcode(status),
    "cpu_s": usage.ru_utime + usage.ru_stime,
    "max_rss_mb": usage.ru_maxrss / 1024,
}
os.write(report, json.dumps(ended).encode())
"""


class NodeLostError(Exception):
    """A command failed while a node of its pilot no longer answered."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Parameters
    ----------
    returncode
        As `subprocess` has it; 124 for a command that ran out of time.
    wall_s, cpu_s
        Time that passed, and that the command and its children used on this node.
    max_rss_mb
        Largest memory of one process.
    host
        Node that it ran on.
    """

    returncode: int
    wall_s: float
    cpu_s: float
    max_rss_mb: float
    host: str


def run_command(
    words: list[str], folder: str, variables: Mapping[str, str], output: str, limit_s: float | None
) -> Outcome:
    """Run a command in a worker.

    Parameters
    ----------
    words
        Program and arguments.
    folder
        Working directory.
    variables
        Environment variables over the worker's own.
    output
        File for what it says on both streams.
    limit_s
        Longest time; then the command and all that it started are asked to end, and ended a minute later.

    Raises
    ------
    NodeLostError
        The command failed, a node of the pilot does not answer, and Slurm has not ended the pilot for it.
    """
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    reader, writer = os.pipe()
    try:
        with Path(output).open("wb") as stream:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _MEASURE, str(writer), *words],
                    cwd=folder,
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    pass_fds=[writer],
                )
            finally:
                os.close(writer)
            in_time = _wait(process, limit_s)
            if not in_time:
                stream.write(f"ended after {limit_s:g} s, the time limit of its rule\n".encode())
        said = os.read(reader, 1024)
    finally:
        os.close(reader)
    # Nothing is said where the process between was itself killed, or found no such program.
    ended = {"returncode": process.returncode, "cpu_s": 0.0, "max_rss_mb": 0.0, **(json.loads(said) if said else {})}
    if not in_time:
        ended["returncode"] = _TIMED_OUT
    elif ended["returncode"] != 0 and not _nodes_answer():
        # Not the command's fault. Slurm will end this pilot when it knows as much, and the task goes to the next one.
        time.sleep(_LOST_NODE_S)
        raise NodeLostError(f"{socket.gethostname()}: a node of its pilot does not answer")
    return Outcome(wall_s=time.perf_counter() - start, host=socket.gethostname(), **ended)


def _nodes_answer() -> bool:
    """Whether a trivial step runs on all nodes of this pilot; a pilot of one node, or none of Slurm's, always does."""
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if int(nodes) < 2:
        return True
    step = ["srun", "--overlap", "--mpi=none", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "true"]
    try:
        return subprocess.run(step, capture_output=True, timeout=_ANSWER_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
    except OSError:
        return True


def _wait(process: subprocess.Popen[bytes], limit_s: float | None) -> bool:
    """Wait for a command, and end it where its time is over; return whether it ended in time."""
    try:
        process.wait(limit_s)
        return True
    except subprocess.TimeoutExpired:
        _end(process.pid)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


def _end(pid: int) -> None:
    """End a process with all that it started."""
    try:
        family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family[:-1], timeout=_GRACE_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
