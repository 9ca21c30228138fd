"""Error model of Evans (2011), fitted as by Brewster et al. (2019), Acta Cryst. D75, 959-968.

sigma'^2 = sdfac^2 (sigma^2 + sdb^2 <I> + sdadd^2 <I>^2), with <I> the plain mean of the reflection's observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exafel._kernels import ev11_sums
from exafel.arrays import FloatArray, IntArray
from exafel.errors import InputError
from exafel.merging.sums import total
from exafel.parallel.comm import Communicator

MIN_OBSERVATIONS = 20
"""Fewest deviations, over all ranks, that the model is fitted to."""
_START = (0.5, 0.3)  # sdb, sdadd
_MAX_STEPS = 60
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
        Fewer than 20 deviations on all ranks together, or none that differs from zero: nothing to fit to.
    """
    counts = comm.allreduce_sum(np.bincount(bins, minlength=n_bins).astype(np.float64))
    n_observations = int(counts.sum())
    if n_observations < MIN_OBSERVATIONS:
        raise InputError(
            f"{n_observations} observations of reflections measured more than twice, and more often than"
            " merge.minimum_multiplicity, are too few for the error model",
            hint="set merge.error.model to none, or merge more lattices",
        )
    if not comm.allreduce_sum(np.array([np.count_nonzero(data.squared)], dtype=np.float64))[0]:
        raise InputError(
            "all observations of a reflection are equal, so there are no errors to model",
            hint="set merge.error.model to none",
        )
    filled = counts > 0
    n = counts[filled]

    def point(squares: FloatArray) -> _Point:
        sdb, sdadd = (float(value) for value in np.sqrt(squares))
        digits = ev11_sums(data.squared, data.mean, data.variance, bins, n_bins, sdb=sdb, sdadd=sdadd, floor=_FLOOR)
        return _evaluate(squares, total(digits, comm)[:, filled], n)

    best = _search(point)
    sdb, sdadd = (float(value) for value in np.sqrt(best.squares))
    return Ev11(best.sdfac, sdb, sdadd, best.target, n_observations)


@dataclass(frozen=True, eq=False)
class _Point:
    """The target at one sdb^2 and sdadd^2, with the best sdfac: residuals (b,) and their derivatives (b, 2)."""

    squares: FloatArray
    sdfac: float
    residual: FloatArray
    jacobian: FloatArray

    @property
    def target(self) -> float:
        return float(self.residual @ self.residual)


def _evaluate(squares: FloatArray, sums: FloatArray, n: FloatArray) -> _Point:
    """Residuals N^1/4 (1 - rms / sdfac) of the filled bins, from the sums that the kernel gives for sdfac = 1."""
    weight = np.sqrt(n)
    rms = np.sqrt(sums[0] / n)
    power = float((weight * rms**2).sum())
    inverse = float((weight * rms).sum()) / power  # 1/sdfac at the bottom of the parabola
    slope = np.divide(-sums[1:], 2.0 * n * rms, out=np.zeros_like(sums[1:]), where=rms > 0)
    inverse_slope = ((weight * slope).sum(axis=1) - 2.0 * inverse * (weight * rms * slope).sum(axis=1)) / power
    jacobian = -np.sqrt(weight)[:, None] * (inverse * slope.T + np.outer(rms, inverse_slope))
    return _Point(squares, 1.0 / inverse, np.sqrt(weight) * (1.0 - inverse * rms), jacobian)


def _search(point: Callable[[FloatArray], _Point]) -> _Point:
    """Minimize the target over squares that stay positive, by the method of Levenberg and Marquardt.

    A square that is zero and wants to fall is left out of the step. Every rank takes the same steps.
    """
    best = point(np.square(_START))
    damping = 1e-3
    for _ in range(_MAX_STEPS):
        gradient = best.jacobian.T @ best.residual
        free = (best.squares > 0) | (gradient < 0)
        normal = (best.jacobian.T @ best.jacobian) * np.outer(free, free)
        normal += np.diag(np.where(free, damping * np.diag(normal) + 1e-30, 1.0))
        trial = point(np.maximum(best.squares - np.linalg.solve(normal, gradient * free), 0.0))
        gain = best.target - trial.target
        if gain > 0:
            best, damping = trial, max(damping / 10.0, 1e-9)
        else:
            damping *= 10.0
        if abs(gain) <= 1e-12 * best.target or damping > 1e9:
            break
    return best
