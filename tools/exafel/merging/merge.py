"""Inverse-variance means of the observations of each reflection, for all lattices and for either half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

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

    `i_over_sigma` is the sum of the observations' own I/sigma, before the error model, shape (k,).
    """

    keys: IntArray
    all: Sums
    odd: Sums
    even: Sums
    i_over_sigma: FloatArray

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: AnyArray) -> Merged:
        """Return chosen reflections."""
        return Merged(
            self.keys[rows], self.all.take(rows), self.odd.take(rows), self.even.take(rows), self.i_over_sigma[rows]
        )

    def with_at_least(self, minimum: int) -> Merged:
        """Drop reflections with fewer observations, and empty halves that have fewer."""
        kept = self.take(self.all.n >= minimum)
        return Merged(
            kept.keys, kept.all, kept.odd.with_at_least(minimum), kept.even.with_at_least(minimum), kept.i_over_sigma
        )


def merge(observations: Observations, variance: FloatArray) -> Merged:
    """Merge sorted observations.

    Parameters
    ----------
    observations
        Sorted by reflection; see `exafel.merging.group`.
    variance
        Variances by the error model, in place of the observations' own, shape (n,).
    """
    starts = observations.starts()
    weight = 1.0 / variance
    weighted = observations.intensity * weight
    odd = observations.odd
    everything = _sums(np.ones(len(observations), dtype=bool), weight, weighted, starts)
    ratio = observations.intensity / np.sqrt(observations.variance)
    return Merged(
        keys=observations.keys[starts],
        all=everything,
        odd=_sums(odd, weight, weighted, starts),
        even=_sums(~odd, weight, weighted, starts),
        i_over_sigma=_by_reflection(ratio, starts),
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
    """Join what the ranks merged, sorted by key; no reflection is in two parts."""
    keys = np.concatenate([part.keys for part in parts])
    order = np.argsort(keys, kind="stable")

    def joined(name: str) -> Sums:
        sums = [getattr(part, name) for part in parts]
        return Sums(*(np.concatenate([getattr(item, field.name) for item in sums])[order] for field in fields(Sums)))

    ratio = np.concatenate([part.i_over_sigma for part in parts])[order]
    return Merged(keys[order], joined("all"), joined("odd"), joined("even"), ratio)
