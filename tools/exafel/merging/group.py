"""Observations of reflections, and the exchange that brings all of a reflection to one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.errors import InputError
from exafel.merging.asu import KEY_BITS
from exafel.parallel.comm import Communicator

_LATTICE_BITS = 63 - KEY_BITS
MAX_LATTICES = 1 << (_LATTICE_BITS - 1)
"""Most lattices that can be merged at once: one bit of the order word says which half a lattice is in."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Observations of reflections, one row each.

    Parameters
    ----------
    order
        Key of the reflection (`exafel.merging.asu`), then number of the lattice, then whether it is in the odd half,
        packed so that sorting by it sorts by them, shape (n,).
    intensity, variance
        Shape (n,).
    """

    order: IntArray
    intensity: FloatArray
    variance: FloatArray

    def __len__(self) -> int:
        return len(self.order)

    @property
    def keys(self) -> IntArray:
        """Key of the reflection, shape (n,)."""
        return self.order >> _LATTICE_BITS

    @property
    def lattices(self) -> IntArray:
        """Number of the lattice, shape (n,)."""
        return (self.order >> 1) & (MAX_LATTICES - 1)

    @property
    def odd(self) -> BoolArray:
        """Whether the lattice is in the odd half, shape (n,)."""
        return (self.order & 1).astype(bool)

    def starts(self) -> IntArray:
        """First row of each reflection, for sorted observations, shape (k,)."""
        keys = self.keys
        first = np.ones(len(keys), dtype=bool)
        first[1:] = keys[1:] != keys[:-1]
        return np.flatnonzero(first)

    def take(self, rows: AnyArray | slice) -> Observations:
        """Return chosen rows."""
        return Observations(self.order[rows], self.intensity[rows], self.variance[rows])

    @staticmethod
    def concatenate(parts: Sequence[Observations]) -> Observations:
        """Join, part after part."""
        if not parts:
            return Observations(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
        return Observations(
            np.concatenate([part.order for part in parts]),
            np.concatenate([part.intensity for part in parts]),
            np.concatenate([part.variance for part in parts]),
        )


Parts = Callable[[], Iterable[Observations]]
"""Gives a rank's observations, sorted by reflection and lattice, part after part; can be called again."""


def order_words(keys: IntArray, lattice: int, *, odd: bool) -> IntArray:
    """Pack key, lattice number and half of each observation of a lattice, shape (n,).

    Raises
    ------
    InputError
        A lattice number is too large.
    """
    if lattice >= MAX_LATTICES:
        raise InputError(f"more than {MAX_LATTICES} lattices cannot be merged at once")
    return (keys << _LATTICE_BITS) | (lattice << 1 | odd)


def renumbered(observations: Observations, numbers: IntArray) -> Observations:
    """Give lattices other numbers, and sort by reflection and lattice.

    Parameters
    ----------
    observations
        In any order, but those of one lattice in the lattice's own.
    numbers
        New number by old number; observations of lattices with a negative one are dropped.
    """
    new = numbers[observations.lattices]
    order = (observations.order & ~np.int64((MAX_LATTICES - 1) << 1)) | (new << 1)
    if (new < 0).any():
        stay = np.flatnonzero(new >= 0)
        rows = stay[np.argsort(order[stay], kind="stable")]
    else:
        rows = np.argsort(order, kind="stable")
    return Observations(order[rows], observations.intensity[rows], observations.variance[rows])


def scattered(keys: IntArray) -> AnyArray:
    """Hash of each reflection's index that Bijvoet mates share, unsigned, shape (n,).

    The mixer is that of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), so that neighbouring indices spread evenly.
    """
    x = (keys >> 1).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def owner(keys: IntArray, size: int) -> IntArray:
    """Rank that merges each reflection, which is that of its Bijvoet mate, shape (n,)."""
    return (scattered(keys) % np.uint64(size)).astype(np.int64)


def exchange(local: Observations, comm: Communicator) -> Observations:
    """Send each observation to the rank that merges its reflection; all ranks call it, with what they have.

    Returns
    -------
    What came here: in rank order, and from each rank in its order.
    """
    if comm.size == 1:
        return local
    to = owner(local.keys, comm.size)
    return Observations.concatenate(comm.alltoall([local.take(to == rank) for rank in range(comm.size)]))
