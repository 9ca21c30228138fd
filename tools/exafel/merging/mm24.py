"""Error model of Mittan-Moreau et al. (2024), Acta Cryst. D80: maximum likelihood of pairwise differences.

sigma'^2 = sfac^2 (sigma^2 + sadd^2 <I>^2) with sadd^2 = a^2 exp(-b CC) + c^2, CC the correlation of the observation's
lattice with the reference, so that lattices that agree badly weigh less. The difference of two observations of a
reflection over the root of the sum of their variances is distributed as Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from exafel._kernels import exact_sums
from exafel.arrays import FloatArray, IntArray
from exafel.config.merge_errors import Mm24Config
from exafel.errors import InputError
from exafel.merging.ev11 import group_means, intensity_bins
from exafel.merging.group import Observations
from exafel.merging.sums import total
from exafel.parallel.comm import Communicator

MIN_PAIRS = 20
"""Fewest pairs, over all ranks, that the model is fitted to."""
_START = (1.0, 0.3, 1.0, 0.1)  # sfac, a, b, c
_LARGEST = 1e3


@dataclass(frozen=True)
class Mm24:
    """Parameters of the error model, and the value of its target at them."""

    sfac: float
    a: float
    b: float
    c: float
    target: float
    n_pairs: int

    def variance(self, variance: FloatArray, mean: FloatArray, correlation: FloatArray) -> FloatArray:
        """Corrected variances of observations of these variances, mean intensities and lattice correlations, (n,)."""
        sadd_squared = self.a**2 * np.exp(-self.b * correlation) + self.c**2
        return self.sfac**2 * (variance + sadd_squared * mean**2)

    def parameters(self) -> dict[str, float]:
        """Return the parameters by name."""
        return {"sfac": self.sfac, "sadd_a": self.a, "sadd_b": self.b, "sadd_c": self.c}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of observations of one reflection.

    Parameters
    ----------
    difference
        Of the two intensities, shape (m,).
    mean
        Plain mean intensity of the reflection, shape (m,).
    variance
        Sum of the two variances, shape (m,).
    correlation_1, correlation_2
        Of the two lattices, shape (m,).
    weight
        Share of each pair in the number of observations of its reflection, shape (m,).
    """

    difference: FloatArray
    mean: FloatArray
    variance: FloatArray
    correlation_1: FloatArray
    correlation_2: FloatArray
    weight: FloatArray


def pair_differences(grouped: Observations, correlations: FloatArray, more_than: int, max_pairs: int) -> Pairs:
    """Pair the observations of each reflection that has more than `more_than` of them.

    Each is paired with the next one, the one after the next, and so on, as long as that gives no more than `max_pairs`
    pairs a reflection, but always with the next: lattices follow each other at random, so that no pair is preferred.

    Parameters
    ----------
    grouped
        Sorted observations.
    correlations
        Of the lattices, by number.
    """
    starts = grouped.starts()
    mean, counts = group_means(grouped.intensity, starts)
    place = np.arange(len(grouped)) - np.repeat(starts, np.diff(np.append(starts, len(grouped))))
    use = counts > max(more_than, 1)
    first, second = [], []
    lag = 1
    while True:
        # the pairs at lags up to this one number lag n - lag (lag + 1) / 2
        within = (lag * counts - lag * (lag + 1) // 2 <= max_pairs) | (lag == 1)
        rows = np.flatnonzero(use & within & (place + lag < counts))
        if not len(rows):
            break
        first.append(rows)
        second.append(rows + lag)
        lag += 1
    one = np.concatenate([np.zeros(0, dtype=np.int64), *first])
    two = np.concatenate([np.zeros(0, dtype=np.int64), *second])
    reflection = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(grouped))))[one]
    in_reflection = np.bincount(reflection, minlength=len(starts))[reflection]
    lattices = grouped.lattices
    return Pairs(
        difference=grouped.intensity[one] - grouped.intensity[two],
        mean=mean[one],
        variance=grouped.variance[one] + grouped.variance[two],
        correlation_1=correlations[lattices[one]],
        correlation_2=correlations[lattices[two]],
        weight=counts[one] / in_reflection,
    )


def fit_mm24(pairs: Sequence[Pairs], config: Mm24Config, *, constant_sadd: bool, comm: Communicator) -> Mm24:
    """Fit the model by maximum likelihood.

    A bin of intensities weighs as the root of its number of observations, not as the number, so that the few strong
    reflections count.

    Parameters
    ----------
    pairs
        This rank's pairs.
    config
        The parameters.
    constant_sadd
        Whether b stays 0, so that correlations do not matter.
    comm
        The ranks, all of which take the same steps.

    Raises
    ------
    InputError
        Fewer than 20 pairs on all ranks together, or none that differs.
    """
    from scipy.optimize import minimize  # takes a tenth of a second to import

    data = _joined(pairs)
    counts = np.array([len(data.difference), np.count_nonzero(data.difference)], dtype=np.float64)
    n_pairs, n_differing = (int(value) for value in comm.allreduce_sum(counts))
    if n_pairs < MIN_PAIRS or not n_differing:
        raise InputError(
            f"{n_pairs} pairs of observations of a reflection, of which {n_differing} differ, are too few for the"
            " error model",
            hint="set merge.error.model to none, or merge more lattices",
        )
    bins = _bins(data, config.number_of_intensity_bins, comm)
    weights = _bin_weights(data, bins, config.number_of_intensity_bins, comm)
    free = np.array([True, True, not constant_sadd, not constant_sadd])
    start = np.where(free, _START, 0.0)

    def target(values: FloatArray) -> tuple[float, FloatArray]:
        full = start.copy()
        full[free] = values
        digits = exact_sums(_terms(data, full, config.tuning_param), bins, config.number_of_intensity_bins)
        sums = total(digits, comm) @ weights
        return float(sums[0]), sums[1:][free]

    bounds = [(1e-6, _LARGEST), (0.0, _LARGEST), (0.0, 50.0), (0.0, _LARGEST)]
    found = minimize(
        target, start[free], jac=True, method="L-BFGS-B", bounds=[b for b, f in zip(bounds, free, strict=True) if f]
    )
    values = start.copy()
    values[free] = found.x
    sfac, a, b, c = (float(value) for value in values)
    return Mm24(sfac, a, b, c, float(found.fun), n_pairs)


def _joined(pairs: Sequence[Pairs]) -> Pairs:
    if len(pairs) == 1:
        return pairs[0]
    return Pairs(*(np.concatenate([getattr(item, field.name) for item in pairs]) for field in fields(Pairs)))


def _bins(data: Pairs, n_bins: int, comm: Communicator) -> IntArray:
    """Bins of equal width between the half-per-cent tails of <I>; what is beyond them is in the outermost bins."""
    low, high = (0.0, 1.0)
    everyone = np.unique(np.concatenate(comm.allgather(np.unique(data.mean))))
    if len(everyone) > 1:
        low, high = (float(everyone[int(share * (len(everyone) - 1))]) for share in (0.005, 0.995))
    return intensity_bins(data.mean, low, high if high > low else low + 1.0, n_bins)


def _bin_weights(data: Pairs, bins: IntArray, n_bins: int, comm: Communicator) -> FloatArray:
    """Root of the number of observations over the number of pairs, of each bin."""
    ones = np.ones(len(bins))
    observed, n_pairs = total(exact_sums(np.stack([data.weight, ones]), bins, n_bins), comm)
    return np.asarray(np.divide(np.sqrt(observed), n_pairs, out=np.zeros(n_bins), where=n_pairs > 0))


def _terms(data: Pairs, values: FloatArray, freedom: float) -> FloatArray:
    """Negative logarithm of the likelihood of each pair, less what is constant, and its four slopes, shape (5, m)."""
    sfac, a, b, c = (float(value) for value in values)
    falling_1, falling_2 = np.exp(-b * data.correlation_1), np.exp(-b * data.correlation_2)
    squared_mean = data.mean**2
    inner = data.variance + (a**2 * (falling_1 + falling_2) + 2.0 * c**2) * squared_mean
    variance = sfac**2 * inner
    z_squared = data.difference**2 / variance
    loss = 0.5 * np.log(variance) + 0.5 * (freedom + 1.0) * np.log1p(z_squared / freedom)
    by_variance = (0.5 - 0.5 * (freedom + 1.0) * z_squared / (freedom + z_squared)) / variance
    by_inner = by_variance * sfac**2 * squared_mean
    by_b = -(a**2) * (data.correlation_1 * falling_1 + data.correlation_2 * falling_2)
    return np.stack(
        [
            loss,
            by_variance * 2.0 * sfac * inner,
            by_inner * 2.0 * a * (falling_1 + falling_2),
            by_inner * by_b,
            by_inner * 4.0 * c,
        ]
    )
