"""Local ranks: the collectives against their definitions, and what a dying rank does to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from exafel.errors import InputError, NothingUsableError
from exafel.parallel.comm import Communicator, SerialComm, from_root
from exafel.parallel.launch import launch
from exafel.parallel.local import RankLostError, run_local


def collectives(seed: int, comm: Communicator) -> dict[str, object]:
    mine = seed + comm.rank
    large = np.full(300_000, float(comm.rank))  # larger than a pipe's buffer
    swapped = comm.alltoall([large + 10 * to for to in range(comm.size)])
    with comm.counter() as counter:
        taken = []
        while (first := counter.take(3)) < 30:
            taken.append(first)
    with comm.counter() as again:
        restarted = sorted(comm.allgather(again.take()))
    return {
        "bcast": comm.bcast(mine if comm.rank == 1 % comm.size else None, root=1 % comm.size),
        "gather": comm.gather(mine),
        "allgather": comm.allgather(mine),
        "alltoall": [float(part[0]) for part in swapped],
        "sum": comm.allreduce_sum(np.array([1.0, comm.rank])).tolist(),
        "taken": sorted(first for part in comm.allgather(taken) for first in part),
        "restarted": restarted,
    }


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_collectives_do_what_their_names_say(ranks: int) -> None:
    result = launch(collectives, 100, ranks=ranks)
    assert result["bcast"] == 100 + 1 % ranks
    assert result["gather"] == result["allgather"] == [100 + rank for rank in range(ranks)]
    assert result["alltoall"] == [float(rank) for rank in range(ranks)]
    assert result["sum"] == [ranks, sum(range(ranks))]
    assert result["taken"] == list(range(0, 30, 3)), "every chunk is handed out exactly once"
    assert result["restarted"] == list(range(ranks)), "a new counter starts at 0"


def fail_on_last_rank(comm: Communicator) -> None:
    if comm.rank == comm.size - 1:
        raise InputError("broken", where="file.h5", hint="mend it")
    comm.barrier()


def test_the_error_of_one_rank_is_the_error_of_the_run() -> None:
    with pytest.raises(InputError, match=r"file\.h5: broken \(mend it\)"):
        run_local(fail_on_last_rank, 3)


def die_on_last_rank(comm: Communicator) -> None:
    if comm.rank == comm.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.barrier()


def test_a_killed_rank_ends_the_run_with_a_word() -> None:
    with pytest.raises(RankLostError, match="ended from outside"):
        run_local(die_on_last_rank, 2)


def fail_everywhere(comm: Communicator) -> None:
    raise NothingUsableError("nothing came out")


def test_a_failure_of_all_ranks_is_raised_once() -> None:
    with pytest.raises(NothingUsableError):
        run_local(fail_everywhere, 2)


def fail_after_the_last_meeting(comm: Communicator) -> None:
    if comm.rank == 1:
        raise InputError("broken", where="file.h5")


def test_an_error_after_the_last_meeting_of_the_ranks_is_not_lost() -> None:
    with pytest.raises(InputError, match=r"file\.h5: broken"):
        run_local(fail_after_the_last_meeting, 2)


class UnpicklableError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def stumble(kind: str, comm: Communicator) -> None:
    if comm.rank == 1:
        raise UnpicklableError(1, 2) if kind == "unpicklable" else ZeroDivisionError
    comm.barrier()


@pytest.mark.parametrize(("kind", "error"), [("plain", ZeroDivisionError), ("unpicklable", RuntimeError)])
def test_an_unforeseen_error_says_where_it_was_raised(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        run_local(stumble, 2, kind)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "on rank 1" in told
    assert "in stumble" in told


PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from exafel.parallel.local import run_local
def work(folder, comm):
    if comm.rank:
        program = subprocess.Popen(["sleep", "60"])
        (Path(folder) / "started").write_text(f"{os.getpid()} {program.pid}")
        try:
            program.wait()
        finally:
            program.kill()
            program.wait()
    comm.barrier()
if __name__ == "__main__":
    run_local(work, 2, sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ranks_and_their_programs_end_with_rank_0(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path)]
    rank0 = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        started = tmp_path / "started"
        assert wait_until(lambda: started.is_file() and started.read_text() != "")
        if number == signal.SIGINT:
            os.killpg(rank0.pid, number)  # as the terminal does
        else:
            rank0.send_signal(number)
        assert wait_until(lambda: not any(is_running(int(pid)) for pid in started.read_text().split()))
        assert wait_until(lambda: rank0.poll() is not None), "rank 0 has its word and ends by itself"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(rank0.pid, signal.SIGKILL)
    errors = rank0.communicate()[1]
    if number == signal.SIGINT:
        assert errors.count("KeyboardInterrupt") >= 1, errors
        assert "Process Spawn" not in errors, f"rank 0 alone speaks: {errors}"
        assert "leaked" not in errors, errors


def wait_until(reached: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ask_root_twice(comm: Communicator) -> list[tuple[int, str]]:
    def work() -> int:
        return 100 + comm.rank

    def fail() -> int:
        raise NothingUsableError(f"nothing on rank {comm.rank}")

    try:
        from_root(comm, fail)
    except NothingUsableError as error:
        return comm.allgather((from_root(comm, work), str(error)))
    raise AssertionError


@pytest.mark.parametrize("ranks", [1, 3])
def test_result_and_error_of_rank_0_come_to_every_rank(ranks: int) -> None:
    assert launch(ask_root_twice, ranks=ranks) == [(100, "nothing on rank 0")] * ranks


def test_serial_collectives_are_identities() -> None:
    comm = SerialComm()
    assert comm.alltoall([5]) == comm.gather(5) == comm.allgather(5) == [5]
