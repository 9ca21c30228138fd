"""Inverse-variance means of the observations of each reflection, for all lattices and for either half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.merging.group import Observations


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over observations of each reflection: what means come from, and what adds up.

    Parameters
    ----------
    n
        Number of observations, shape (k,).
    weight
        Sum of 1/variance, shape (k,).
    weighted
        Sum of intensity/variance, shape (k,).
    """

    n: IntArray
    weight: FloatArray
    weighted: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Inverse-variance mean intensity, NaN where there is no observation, shape (k,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.weighted / self.weight

    @property
    def sigma(self) -> FloatArray:
        """Standard error of the mean, NaN where there is no observation, shape (k,)."""
        with np.errstate(divide="ignore"):
            return np.where(self.n > 0, 1.0 / np.sqrt(self.weight), np.nan)

    def with_at_least(self, minimum: int) -> Sums:
        """Return the sums with reflections of fewer observations emptied."""
        enough = self.n >= minimum
        return Sums(self.n * enough, self.weight * enough, self.weighted * enough)

    def take(self, rows: AnyArray) -> Sums:
        """Return chosen reflections."""
        return Sums(self.n[rows], self.weight[rows], self.weighted[rows])

    def add_at(self, places: IntArray, size: int) -> Sums:
        """Add the sums up at places (k,) among `size` new reflections, such as those of Bijvoet mates."""
        n, weight, weighted = (
            np.bincount(places, weights=values, minlength=size).astype(np.float64)
            for values in (self.n, self.weight, self.weighted)
        )
        return Sums(n.astype(np.int64), weight, weighted)


@dataclass(frozen=True, eq=False)
class Merged:
    """Reflections by sorted key, with their sums over all lattices and over the odd and even halves.

    `i_over_sigma` is the sum of the observations' own I/sigma, before the error model, shape (k,). `splits` are the
    sums over one half of each of several random splits; those over the other half are what is left of `all`.
    """

    keys: IntArray
    all: Sums
    odd: Sums
    even: Sums
    i_over_sigma: FloatArray
    splits: tuple[Sums, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: AnyArray) -> Merged:
        """Return chosen reflections."""
        return Merged(
            self.keys[rows],
            self.all.take(rows),
            self.odd.take(rows),
            self.even.take(rows),
            self.i_over_sigma[rows],
            tuple(item.take(rows) for item in self.splits),
        )

    def with_at_least(self, minimum: int) -> Merged:
        """Drop reflections with fewer observations, and empty halves that have fewer."""
        kept = self.take(self.all.n >= minimum)
        return replace(kept, odd=kept.odd.with_at_least(minimum), even=kept.even.with_at_least(minimum))


def merge(observations: Observations, variance: FloatArray, splits: AnyArray | None = None) -> Merged:
    """Merge sorted observations.

    Parameters
    ----------
    observations
        Sorted by reflection; see `exafel.merging.group`.
    variance
        Variances by the error model, in place of the observations' own, shape (n,).
    splits
        Whether each lattice, by number, is in the one half of each random split, shape (n_splits, n_lattices).
    """
    starts = observations.starts()
    weight = 1.0 / variance
    weighted = observations.intensity * weight
    odd = observations.odd
    everything = _sums(np.ones(len(observations), dtype=bool), weight, weighted, starts)
    ratio = observations.intensity / np.sqrt(observations.variance)
    halves = () if splits is None else splits[:, observations.lattices]
    return Merged(
        keys=observations.keys[starts],
        all=everything,
        odd=_sums(odd, weight, weighted, starts),
        even=_sums(~odd, weight, weighted, starts),
        i_over_sigma=_by_reflection(ratio, starts),
        splits=tuple(_sums(half, weight, weighted, starts) for half in halves),
    )


def _sums(chosen: BoolArray, weight: FloatArray, weighted: FloatArray, starts: IntArray) -> Sums:
    return Sums(
        _by_reflection(chosen.astype(np.int64), starts),
        _by_reflection(weight * chosen, starts),
        _by_reflection(weighted * chosen, starts),
    )


def _by_reflection(values: AnyArray, starts: IntArray) -> AnyArray:
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def join(parts: Sequence[Merged]) -> Merged:
    """Join what ranks merged, sorted by key; no reflection is in two parts."""
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([part.keys for part in parts])
    order = np.argsort(keys, kind="stable")

    def joined(sums: Sequence[Sums]) -> Sums:
        return Sums(*(np.concatenate([getattr(item, field.name) for item in sums])[order] for field in fields(Sums)))

    return Merged(
        keys[order],
        joined([part.all for part in parts]),
        joined([part.odd for part in parts]),
        joined([part.even for part in parts]),
        np.concatenate([part.i_over_sigma for part in parts])[order],
        tuple(joined(halves) for halves in zip(*(part.splits for part in parts), strict=True)),
    )


def add(first: Merged, second: Merged) -> Merged:
    """Sums over the observations of two merges, reflection by reflection, sorted by key."""
    keys, place = np.unique(np.concatenate([first.keys, second.keys]), return_inverse=True)

    def added(one: Sums, other: Sums) -> Sums:
        both = Sums(*(np.concatenate([getattr(one, f.name), getattr(other, f.name)]) for f in fields(Sums)))
        return both.add_at(place, len(keys))

    ratio = np.bincount(place, weights=np.concatenate([first.i_over_sigma, second.i_over_sigma]), minlength=len(keys))
    return Merged(
        keys,
        added(first.all, second.all),
        added(first.odd, second.odd),
        added(first.even, second.even),
        ratio.astype(np.float64),
        tuple(added(one, other) for one, other in zip(first.splits, second.splits, strict=True)),
    )
