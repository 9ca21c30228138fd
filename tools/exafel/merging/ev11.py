"""Error model of Evans (2011), fitted as by Brewster et al. (2019), Acta Cryst. D75, 959-968.

sigma'^2 = sdfac^2 (sigma^2 + sdb^2 <I> + sdadd^2 <I>^2), with <I> the plain mean of the reflection's observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from exafel.arrays import FloatArray, IntArray
from exafel.errors import InputError

Sum = Callable[[FloatArray, IntArray, int], FloatArray]
"""Sums of values (k, n) by group (n,) over all ranks, shape (k, n_groups); see `exafel.merging.sums`."""

MIN_OBSERVATIONS = 20
_START = ((1.0, 0.5, 0.1), (2.0, 1.0, 0.5), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Ev11:
    """Parameters of the error model, and the value of its target at them."""

    sdfac: float
    sdb: float
    sdadd: float
    target: float
    n_observations: int

    def variance(self, variance: FloatArray, mean_intensity: FloatArray) -> FloatArray:
        """Corrected variances of observations with these variances and mean intensities of their reflections."""
        return self.sdfac**2 * (variance + self.sdb**2 * mean_intensity + self.sdadd**2 * mean_intensity**2)


@dataclass(frozen=True, eq=False)
class Deviations:
    """Observations of reflections measured often enough to have a spread.

    Parameters
    ----------
    squared
        (n-1)/n (I_j - mean of the other observations)^2, whose expectation is the variance of I_j, shape (m,).
    mean
        Plain mean intensity of the reflection, shape (m,).
    variance
        Variance of the observation, shape (m,).
    """

    squared: FloatArray
    mean: FloatArray
    variance: FloatArray


def group_means(intensity: FloatArray, starts: IntArray) -> tuple[FloatArray, IntArray]:
    """Plain mean intensity and number of observations of the reflection each observation belongs to, shape (n,)."""
    counts = np.diff(np.append(starts, len(intensity)))
    means = np.add.reduceat(intensity, starts) / counts if len(starts) else np.zeros(0)
    return np.repeat(means, counts), np.repeat(counts, counts)


def deviations(intensity: FloatArray, variance: FloatArray, starts: IntArray, more_than: int) -> Deviations:
    """Deviations of the observations of reflections that have more than `more_than` of them.

    Parameters
    ----------
    intensity, variance
        Observations, all of one reflection next to each other, shape (n,).
    starts
        First observation of each reflection, shape (k,).
    """
    mean, counts = group_means(intensity, starts)
    use = counts > max(more_than, 1)
    n = counts[use].astype(np.float64)
    others = (mean[use] * n - intensity[use]) / (n - 1.0)
    return Deviations((n - 1.0) / n * (intensity[use] - others) ** 2, mean[use], variance[use])
