"""Work in chunks that a counter hands out, kept in spools: what a killed run has finished is not done again."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, cast

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


def _no_remark(_result: Numbered) -> str:
    return ""


def process_chunks(
    step: StepRun,
    comm: Communicator,
    hooks: Hooks,
    items: int | Sequence[int],
    chunk_size: int,
    work: Callable[[int], NumberedT],
    remark: Callable[[NumberedT], str] = _no_remark,
) -> list[Path]:
    """Do the work that is left of some items, and return the spools of this rank's results.

    Only the chunk at work is in memory: what is finished lies in the spool.

    Parameters
    ----------
    step, comm, hooks
        The run.
    items
        Numbers of the items, or how many there are, numbered from 0.
    chunk_size
        Items that a rank takes at a time at the most.
    work
        Makes the result of an item; a class of this package, which can be pickled.
    remark
        Takes each result of this rank, first those that an interrupted run has left, and returns what the progress bar
        is to say of all so far.
    """
    numbers = range(items) if isinstance(items, int) else items
    spools = left_behind(step, comm)
    mine, note = [], ""
    for item in stored(spools):
        mine.append(item.number)
        note = remark(cast("NumberedT", item))
    done = {number for part in comm.allgather(mine) for number in part}
    left = [number for number in numbers if number not in done]
    size = max(1, min(chunk_size, len(left) // (_CHUNKS_PER_RANK * comm.size)))
    path = step.work / f"rank-{comm.rank:05d}.spool"
    with hooks.progress(step.request.step, len(numbers)) as bar, ChunkSpool(path) as spool, comm.counter() as counter:
        while (first := counter.take(size)) < len(left):
            bar.update(len(done) + first, note)
            chunk = [work(number) for number in left[first : first + size]]
            spool.append(pickle.dumps(chunk))
            for result in chunk:
                note = remark(result)
        bar.update(len(numbers), note)
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
