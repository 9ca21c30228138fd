"""Who works on the images: ranks that each hold some of them, or tasks that anything with futures runs.

What is done to images is a function of a `Stage`, which does it to the blocks that this stage holds. Ranks call it
where they are and exchange results by collectives. A task is the same function, sent with its arguments to a process
that reads the blocks that it is about, and keeps them for the next task. So both give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from exafel.arrays import FloatArray
from exafel.parallel.comm import Communicator
from exafel.spi.blocks import Images
from exafel.spi.merging import NormalSums

if TYPE_CHECKING:
    from exafel.spi.stage import Stage, StageSettings

T = TypeVar("T")
ItemT = TypeVar("ItemT")


class Workers(Protocol):
    """What a stage asks of those that hold its images. Of ranks, all ask, in the same order."""

    def gather(self, work: Callable[..., Mapping[int, T]], stage: Stage, *args: Any) -> dict[int, T]:
        """Do ``work(stage, *args)`` to all blocks; return its results by the blocks' numbers."""
        ...

    def total(self, work: Callable[..., Sequence[NormalSums]], stage: Stage, *args: Any) -> list[NormalSums]:
        """Do ``work(stage, *args)`` to all blocks; return the sums over them."""
        ...

    def each(self, work: Callable[[Stage, ItemT], T], stage: Stage, items: Sequence[ItemT]) -> list[T]:
        """Do ``work(stage, item)`` to items, here and there; return the results in the items' order."""
        ...


def ordered_sum(parts: Mapping[int, FloatArray]) -> FloatArray:
    """Sum of small arrays of all blocks, in the order of blocks."""
    total = np.zeros_like(parts[0])
    for number in range(len(parts)):
        total = total + parts[number]
    return np.asarray(total, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class RankWorkers:
    """Ranks: each works on its own blocks."""

    comm: Communicator

    def gather(self, work: Callable[..., Mapping[int, T]], stage: Stage, *args: Any) -> dict[int, T]:
        """Work on own blocks, and have the results of all ranks."""
        gathered = self.comm.allgather(dict(work(stage, *args)))
        return {number: value for part in gathered for number, value in part.items()}

    def total(self, work: Callable[..., Sequence[NormalSums]], stage: Stage, *args: Any) -> list[NormalSums]:
        """Work on own blocks, and sum over all ranks by an all-reduce."""
        return [own.summed(self.comm) for own in work(stage, *args)]

    def each(self, work: Callable[[Stage, ItemT], T], stage: Stage, items: Sequence[ItemT]) -> list[T]:
        """Work on every so many-th item, and have the results of all ranks."""
        rank, size = self.comm.rank, self.comm.size
        gathered = self.comm.allgather([work(stage, item) for item in items[rank::size]])
        return [gathered[number % size][number // size] for number in range(len(items))]


@dataclass(frozen=True, eq=False)
class TaskWorkers:
    """Tasks: each works on a group of blocks, in any process that can read the same files.

    Parameters
    ----------
    submit
        Starts a function with its arguments and returns a future: a method of an executor of `concurrent.futures`, or
        an app of Parsl.
    key
        Name of the reconstruction, under which processes keep its images.
    images
        Makes the images of some blocks; it can be pickled.
    groups
        Numbers of the blocks of every task.
    """

    submit: Callable[..., Future[Any]]
    key: str
    images: Callable[[Sequence[int]], Images]
    groups: tuple[tuple[int, ...], ...]

    def gather(self, work: Callable[..., Mapping[int, T]], stage: Stage, *args: Any) -> dict[int, T]:
        """Work by a task a group of blocks."""
        return {number: value for part in self._of_groups(work, stage, args) for number, value in part.items()}

    def total(self, work: Callable[..., Sequence[NormalSums]], stage: Stage, *args: Any) -> list[NormalSums]:
        """Work by a task a group of blocks; the sum is made here."""
        total, *others = self._of_groups(work, stage, args)
        for part in others:
            for own, more in zip(total, part, strict=True):
                own.kernel += more.kernel
                own.right += more.right
        return list(total)

    def each(self, work: Callable[[Stage, ItemT], T], stage: Stage, items: Sequence[ItemT]) -> list[T]:
        """Work by a task an item."""
        futures = [self._task((), work, stage, (item,)) for item in items]
        return [future.result() for future in futures]

    def _of_groups(self, work: Callable[..., T], stage: Stage, args: tuple[Any, ...]) -> list[T]:
        futures = [self._task(group, work, stage, args) for group in self.groups]
        return [future.result() for future in futures]

    def _task(self, group: tuple[int, ...], work: Callable[..., T], stage: Stage, args: tuple[Any, ...]) -> Future[T]:
        return self.submit(run_task, (self.key, group), self.images, stage.settings, work, args)


class _Kept:
    """What a worker process keeps from one task to the next, of one reconstruction: images and stages by group."""

    key = ""
    images: dict[tuple[int, ...], Images] = {}
    stages: dict[tuple[int, ...], Stage] = {}


def run_task(
    place: tuple[str, tuple[int, ...]],
    images: Callable[[Sequence[int]], Images],
    settings: StageSettings,
    work: Callable[..., T],
    args: tuple[Any, ...],
) -> T:
    """Do the work of one task, in the process that it was sent to.

    Parameters
    ----------
    place
        The reconstruction's key, and the blocks.
    """
    from exafel.spi.stage import Stage

    key, group = place
    if _Kept.key != key:
        _Kept.key, _Kept.images, _Kept.stages = key, {}, {}
    stage = _Kept.stages.get(group)
    if stage is None or stage.settings.token != settings.token:
        _Kept.stages.pop(group, None)  # its arrays go before new ones come
        if group not in _Kept.images:
            _Kept.images[group] = images(group)
        stage = _Kept.stages[group] = Stage.part(settings, _Kept.images[group])
    return work(stage, *args)
