"""Work in chunks that a counter hands out, kept in spools: what a killed run has finished is not done again."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from exafel.parallel import safe_pickle
from exafel.parallel.comm import Communicator
from exafel.parallel.spool import ChunkSpool, read_spool
from exafel.steps.base import Hooks, StepRun

_CHUNKS_PER_RANK = 4
"""Turns that each rank should get at the least, so that slow shots even out."""


class Numbered(Protocol):
    """A result that knows which item it is of."""

    @property
    def number(self) -> int:
        """Number of the item."""
        ...


NumberedT = TypeVar("NumberedT", bound=Numbered)


def process_chunks(
    step: StepRun,
    comm: Communicator,
    hooks: Hooks,
    n: int,
    chunk_size: int,
    work: Callable[[int], Numbered],
) -> list[Path]:
    """Do the work that is left of items 0 to `n`, and return the spools of this rank's results.

    Parameters
    ----------
    step, comm, hooks
        The run.
    n
        Number of items.
    chunk_size
        Items that a rank takes at a time at the most.
    work
        Makes the result of an item; a class of this package, which can be pickled.
    """
    spools = left_behind(step, comm)
    mine = [item.number for item in stored(spools)]
    done = {number for numbers in comm.allgather(mine) for number in numbers}
    left = [number for number in range(n) if number not in done]
    size = max(1, min(chunk_size, len(left) // (_CHUNKS_PER_RANK * comm.size)))
    path = step.work / f"rank-{comm.rank:05d}.spool"
    with hooks.progress(step.request.step, n) as bar, ChunkSpool(path) as spool, comm.counter() as counter:
        while (first := counter.take(size)) < len(left):
            bar.update(len(done) + first)
            spool.append(pickle.dumps([work(number) for number in left[first : first + size]]))
        bar.update(n)
    return sorted({path, *spools})


def left_behind(step: StepRun, comm: Communicator) -> list[Path]:
    """Spools of an interrupted run: this rank's own, and a share of those of ranks that are no more."""
    if comm.rank == 0:
        step.work.mkdir(parents=True, exist_ok=True)
        found = sorted(step.work.glob("rank-*.spool"))
    else:
        found = []
    return [path for path in comm.bcast(found) if int(path.stem.removeprefix("rank-")) % comm.size == comm.rank]


def stored(spools: Sequence[Path]) -> Iterator[Numbered]:
    """Results in spools, a chunk at a time in memory."""
    for path in spools:
        for record in read_spool(path):
            yield from safe_pickle.loads(record, where=str(path))
