"""What ranks say to one another: one protocol over MPI, over local processes, and over nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar, cast

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import ExafelError

T = TypeVar("T")


class Counter(Protocol):
    """A number that all ranks share; taking it is atomic, so that work is handed out once and no rank serves."""

    def take(self, n: int = 1) -> int:
        """Add `n` to the counter and return what it was before."""
        ...


class Communicator(Protocol):
    """Ranks of one run. Every method is collective: all ranks call it, in the same order."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of ranks."""
        ...

    @property
    def start_s(self) -> float:
        """Seconds that it took to start MPI on this rank, all ranks awaited; 0 where there is none."""
        ...

    def barrier(self) -> None:
        """Wait for all ranks."""
        ...

    def bcast(self, value: T, root: int = 0) -> T:
        """Return `root`'s value on every rank."""
        ...

    def gather(self, value: T, root: int = 0) -> list[T] | None:
        """Values of all ranks in rank order on `root`; None on the others."""
        ...

    def allgather(self, value: T) -> list[T]:
        """Values of all ranks in rank order, on every rank."""
        ...

    def alltoall(self, values: Sequence[T]) -> list[T]:
        """Send ``values[r]`` to rank r; return what every rank sent here, in rank order."""
        ...

    def allreduce_sum(self, value: FloatArray) -> FloatArray:
        """Sum of an array over ranks, added in rank order."""
        ...

    def allreduce_array(self, value: AnyArray) -> AnyArray:
        """Sum of a large array over ranks in its own type; of integers exact, and so the same in any order."""
        ...

    def counter(self) -> AbstractContextManager[Counter]:
        """Return a counter at 0 that all ranks share until all of them have left the context."""
        ...


class _PlainCounter:
    def __init__(self) -> None:
        self.value = 0

    def take(self, n: int = 1) -> int:
        before = self.value
        self.value += n
        return before


class SerialComm:
    """The communicator of one process on its own."""

    rank = 0
    size = 1
    start_s = 0.0

    def barrier(self) -> None:
        """Return at once."""

    def bcast(self, value: T, root: int = 0) -> T:  # noqa: ARG002 - the protocol's signature
        """Return the value."""
        return value

    def gather(self, value: T, root: int = 0) -> list[T] | None:  # noqa: ARG002 - the protocol's signature
        """Return the one value in a list."""
        return [value]

    def allgather(self, value: T) -> list[T]:
        """Return the one value in a list."""
        return [value]

    def alltoall(self, values: Sequence[T]) -> list[T]:
        """Return the one value in a list."""
        return list(values)

    def allreduce_sum(self, value: FloatArray) -> FloatArray:
        """Return the array."""
        return value

    def allreduce_array(self, value: AnyArray) -> AnyArray:
        """Return the array."""
        return value

    @contextmanager
    def counter(self) -> Iterator[Counter]:
        """Return a counter at 0."""
        yield _PlainCounter()


def sum_in_order(parts: Sequence[FloatArray]) -> FloatArray:
    """Sum of arrays in their order, so that it does not depend on who arrives first."""
    total = np.array(parts[0], dtype=np.float64)
    for part in parts[1:]:
        total += part
    return total


def from_root(comm: Communicator, work: Callable[[], T]) -> T:
    """Do some work on rank 0 alone, and return its result on every rank.

    Raises
    ------
    ExafelError
        What the work raised, on every rank: none is left waiting for the others.
    """
    outcome: T | ExafelError | None = None
    if comm.rank == 0:
        try:
            outcome = work()
        except ExafelError as error:
            outcome = error
    outcome = comm.bcast(outcome)
    if isinstance(outcome, ExafelError):
        raise outcome
    return cast("T", outcome)
