"""What a worker in a pilot does: run one command, watch its time, and say how it went."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
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
    with Path(output).open("wb") as stream:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        ended = _wait(process, limit_s)
        if ended is None:
            _end(process.pid)
            ended = _wait(process, _GRACE_S)
            if ended is None:
                process.kill()
                ended = _wait(process, None)
            stream.write(f"ended after {limit_s:g} s, the time limit of its rule\n".encode())
            process.returncode = _TIMED_OUT
    assert ended is not None, "without a limit one waits to the end"
    if process.returncode not in (0, _TIMED_OUT) and not _nodes_answer():
        # Not the command's fault. Slurm will end this pilot when it knows as much, and the task goes to the next one.
        time.sleep(_LOST_NODE_S)
        raise NodeLostError(f"{socket.gethostname()}: a node of its pilot does not answer")
    wall_s, cpu_s = time.perf_counter() - start, ended.ru_utime + ended.ru_stime
    return Outcome(process.returncode, wall_s, cpu_s, ended.ru_maxrss / 1024, socket.gethostname())


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


def _wait(process: subprocess.Popen[bytes], limit_s: float | None) -> resource.struct_rusage | None:
    """Wait for a command; return what it alone has used, or None where it has not ended in time."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    pause = 0.005
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if deadline is not None and time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(0.2, 1.5 * pause)


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
