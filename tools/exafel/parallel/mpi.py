"""The communicator over MPI (mpi4py)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import ConfigError
from exafel.parallel.comm import Counter, sum_in_order

T = TypeVar("T")

_LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
_LAUNCHER_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


def launched_ranks(environ: Mapping[str, str] = os.environ) -> int:
    """Number of ranks that an MPI launcher started; 1 where there was no launcher.

    ``srun`` counts only inside a job step of several tasks: a batch script itself carries SLURM_NTASKS too.
    """
    for name in _LAUNCHER_SIZES:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    if environ.get("SLURM_STEP_ID", "").isdigit():
        return int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return 1


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Rank of this process under an MPI launcher; 0 where there was no launcher."""
    if launched_ranks(environ) == 1:
        return 0
    for name in _LAUNCHER_RANKS:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return 0


def abort_ranks(code: int) -> None:
    """End every rank of the run with an exit code: one rank failed and the others would wait for it."""
    mpi = _mpi()
    if mpi is not None:
        mpi.COMM_WORLD.Abort(code)


def let_rank_0_speak() -> None:
    """Wait a second: where rank 0 has failed alike, its abort ends this rank before it says the same."""
    if _mpi() is not None:  # starting MPI waits for all ranks, so that the second begins for all at once
        time.sleep(1)


def _mpi() -> Any:
    """Start MPI; None where it cannot be used, and then no rank waits in it."""
    try:
        return _start_mpi()
    except (ImportError, RuntimeError):
        return None


def _start_mpi() -> Any:
    """Start MPI for calls from one thread: Open MPI has no one-sided communication over plain TCP for more."""
    import mpi4py

    mpi4py.rc.thread_level = "funneled"
    from mpi4py import MPI

    return MPI


class _WindowCounter:
    """Fetch-and-add on a window of rank 0's memory: one-sided, so rank 0 works on meanwhile."""

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi = mpi
        self._window = mpi.Win.Allocate(8 if comm.rank == 0 else 0, 8, comm=comm)
        if comm.rank == 0:
            self._window.Lock(0)
            np.frombuffer(self._window.tomemory(), dtype=np.int64)[:] = 0
            self._window.Unlock(0)
        comm.Barrier()

    def take(self, n: int = 1) -> int:
        before = np.zeros(1, dtype=np.int64)
        self._window.Lock(0)
        self._window.Fetch_and_op(np.array([n], dtype=np.int64), before, 0, 0, self._mpi.SUM)
        self._window.Unlock(0)
        return int(before[0])

    def free(self) -> None:
        self._window.Free()


class MpiComm:
    """Communicator over MPI.COMM_WORLD.

    Raises
    ------
    ConfigError
        An MPI launcher started several processes, but mpi4py is not installed or sees another MPI.
    """

    def __init__(self) -> None:
        start = time.perf_counter()
        try:
            mpi = _start_mpi()
        except (ImportError, RuntimeError) as error:
            raise ConfigError(
                f"started by an MPI launcher, but mpi4py cannot be used: {error}",
                hint="pip install 'exafel[mpi]' with the launcher's MPI library on the machine",
            ) from error
        self.start_s = time.perf_counter() - start
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD
        if self._comm.size != launched_ranks():
            raise ConfigError(
                f"the launcher started {launched_ranks()} processes, but mpi4py sees {self._comm.size}",
                hint="launch with the MPI that mpi4py uses",
            )

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """Number of ranks."""
        return int(self._comm.size)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._comm.Barrier()

    def bcast(self, value: T, root: int = 0) -> T:
        """Return `root`'s value on every rank."""
        result: T = self._comm.bcast(value, root=root)
        return result

    def gather(self, value: T, root: int = 0) -> list[T] | None:
        """Values of all ranks in rank order on `root`; None on the others."""
        result: list[T] | None = self._comm.gather(value, root=root)
        return result

    def allgather(self, value: T) -> list[T]:
        """Values of all ranks in rank order, on every rank."""
        return list(self._comm.allgather(value))

    def alltoall(self, values: Sequence[T]) -> list[T]:
        """Send ``values[r]`` to rank r; return what every rank sent here, in rank order."""
        return list(self._comm.alltoall(list(values)))

    def allreduce_sum(self, value: FloatArray) -> FloatArray:
        """Sum of an array over ranks, added in rank order."""
        return sum_in_order(self.allgather(value))

    def allreduce_array(self, value: AnyArray) -> AnyArray:
        """Sum of a large array over ranks in its own type, by MPI's own reduction: no rank holds more than the sum."""
        total = np.empty_like(value, order="C")
        self._comm.Allreduce(np.ascontiguousarray(value), total, op=self._mpi.SUM)
        return total

    @contextmanager
    def counter(self) -> Iterator[Counter]:
        """Return a counter at 0 that all ranks share."""
        counter = _WindowCounter(self._mpi, self._comm)
        yield counter
        counter.free()
