"""Anomalous statistics: how well the differences of Bijvoet mates are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.merging.merge import Merged, Sums
from exafel.merging.scaling import correlation_with


@dataclass(frozen=True)
class AnomalousStatistics:
    """Statistics of Bijvoet differences; None where there are too few.

    Parameters
    ----------
    n
        Acentric reflections both of whose mates were measured.
    n_half
        Those of which both halves have both mates.
    cc_anom
        Correlation of the differences of the two halves.
    signal
        Mean |difference| / sigma(difference): 0.80 where there is nothing but normal errors.
    """

    n: int
    n_half: int
    cc_anom: float | None
    signal: float | None


def anomalous_statistics(merged: Merged) -> AnomalousStatistics:
    """Compare Bijvoet mates of merged reflections, sorted by key; centric ones have no mates."""
    first = np.flatnonzero(merged.keys[1:] >> 1 == merged.keys[:-1] >> 1)
    difference, variance = _difference(merged.all, first)
    odd, odd_variance = _difference(merged.odd, first)
    even, even_variance = _difference(merged.even, first)
    both = np.isfinite(odd_variance) & np.isfinite(even_variance)
    n_half = int(np.count_nonzero(both))
    return AnomalousStatistics(
        n=len(first),
        n_half=n_half,
        cc_anom=correlation_with(odd[both], even[both]) if n_half >= 3 else None,
        signal=float(np.mean(np.abs(difference) / np.sqrt(variance))) if len(first) else None,
    )


def _difference(sums: Sums, first: IntArray) -> tuple[FloatArray, FloatArray]:
    """Differences of mates that follow each other in the table, and their variances; NaN where one is not measured."""
    mean, variance = sums.mean, sums.sigma**2
    return mean[first] - mean[first + 1], variance[first] + variance[first + 1]
