"""Local ranks: the collectives against their definitions, and what a dying rank does to the others."""

from __future__ import annotations

import os
import signal

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
