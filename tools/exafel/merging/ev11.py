"""Error model of Evans (2011), fitted as by Brewster et al. (2019), Acta Cryst. D75, 959-968.

sigma'^2 = sdfac^2 (sigma^2 + sdb^2 <I> + sdadd^2 <I>^2), with <I> the plain mean of the reflection's observations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from exafel._kernels import ev11_sums
from exafel.arrays import FloatArray, IntArray
from exafel.errors import InputError
from exafel.merging.sums import total
from exafel.parallel.comm import Communicator

MIN_OBSERVATIONS = 20
"""Fewest deviations, over all ranks, that the model is fitted to."""
_START = (0.5, 0.3)  # sdb, sdadd
_FLOOR = 0.1  # a negative <I> must not take a variance to zero: the observation would outweigh all others


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
        return self.sdfac**2 * _inflated(variance, mean_intensity, self.sdb, self.sdadd)


def _inflated(variance: FloatArray, mean: FloatArray, sdb: float, sdadd: float) -> FloatArray:
    return np.maximum(variance + sdb**2 * mean + sdadd**2 * mean**2, _FLOOR * variance)


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


def intensity_bins(mean: FloatArray, low: float, high: float, n_bins: int) -> IntArray:
    """Bin of each mean intensity among `n_bins` of equal width from `low` to `high`, shape (m,)."""
    limits = np.linspace(low, high, n_bins + 1)
    return np.clip(np.searchsorted(limits, mean, side="right") - 1, 0, n_bins - 1).astype(np.int64)


def fit_ev11(data: Deviations, bins: IntArray, n_bins: int, comm: Communicator) -> Ev11:
    """Fit the error model so that deviations have unit variance in every intensity bin.

    The target is sum over bins of sqrt(N) (1 - sqrt(mean of squared normalized deviations))^2. In 1/sdfac it is a
    parabola, so sdfac is known in closed form for every sdb and sdadd, which alone are searched for.

    Parameters
    ----------
    data
        This rank's deviations.
    bins
        Their intensity bins, shape (m,).
    n_bins
        Number of bins.
    comm
        The ranks.

    Raises
    ------
    InputError
        Fewer than 20 deviations on all ranks together: nothing to fit to.
    """
    counts = comm.allreduce_sum(np.bincount(bins, minlength=n_bins).astype(np.float64))
    n_observations = int(counts.sum())
    if n_observations < MIN_OBSERVATIONS:
        raise InputError(
            f"{n_observations} observations of reflections measured more than twice are too few for the error model",
            hint="set merge.error.model to none, or merge more lattices",
        )
    filled = counts > 0
    n = counts[filled]

    def target(parameters: FloatArray) -> tuple[float, FloatArray, float]:
        sdb, sdadd = parameters
        digits = ev11_sums(data.squared, data.mean, data.variance, bins, n_bins, sdb=sdb, sdadd=sdadd, floor=_FLOOR)
        sums = total(digits, comm)[:, filled]
        rms = np.sqrt(sums[0] / n)
        weight = np.sqrt(n)
        inverse = float((weight * rms).sum() / (weight * rms**2).sum())  # 1/sdfac at the bottom of the parabola
        value = float((weight * (1.0 - inverse * rms) ** 2).sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            drms = np.where(rms > 0, -sums[1:] / (n * rms), 0.0) * np.array([[sdb], [sdadd]])
        gradient = (-2.0 * inverse * weight * (1.0 - inverse * rms) * drms).sum(axis=1)
        return value, gradient, 1.0 / inverse

    found = minimize(
        lambda p: target(p)[:2], _START, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-8}
    )
    value, _, sdfac = target(found.x)
    sdb, sdadd = (abs(float(x)) for x in found.x)
    return Ev11(sdfac, sdb, sdadd, value, n_observations)
