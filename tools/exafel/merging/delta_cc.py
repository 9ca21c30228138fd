"""How much each lattice adds to or takes from CC1/2: Assmann, Brehm & Diederichs (2016), J. Appl. Cryst. 49, 1021-1028.

CC1/2 is computed without halves, by the sigma-tau method: with x the mean of a reflection and e^2 the variance of that
mean, CC1/2 = (var(x) - <e^2>) / (var(x) + <e^2>) for halves of half as many observations, over the reflections with at
least two of them. Leaving a lattice out changes only its own reflections, so that all lattices take one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel._kernels import exact_sums
from exafel.arrays import FloatArray, IntArray
from exafel.merging.group import Observations, Parts
from exafel.merging.sums import total
from exafel.parallel.comm import Communicator

_UNIT = 2.0**-24  # changes are whole multiples of it, in units of <x^2>: their sums are exact, and alike in any order


def delta_cc_half(parts: Parts, n_lattices: int, comm: Communicator) -> tuple[float, FloatArray]:
    """CC1/2 of all lattices, and by how much it is larger than without each of them.

    Parameters
    ----------
    parts
        Gives this rank's observations, sorted; asked for twice.
    n_lattices
        Number of lattices.
    comm
        The ranks.

    Returns
    -------
    CC1/2, and the differences by lattice number, shape (n_lattices,): negative for a lattice that makes it worse; 0
    where too little is left without it.
    """
    digits = [exact_sums(sums, np.zeros(sums.shape[1], dtype=np.int64), 1) for sums in map(_reflections, parts())]
    whole = total(np.sum(digits, axis=0), comm)[:, 0]
    scale = float(np.sqrt(whole[2] / max(whole[0], 1.0))) or 1.0
    units = np.array([1.0, scale, scale**2, scale**2])[:, None] * _UNIT
    changes = np.zeros((4, n_lattices))
    for part in parts():
        lattice, terms = _changes(part)
        for row, values in enumerate(np.rint(terms / units)):
            changes[row] += np.bincount(lattice, weights=values, minlength=n_lattices)
    without = whole[:, None] + comm.allreduce_sum(changes) * units
    everything = float(_cc_half(whole[:, None])[0])
    alone = _cc_half(without)
    return everything, np.where(np.isfinite(alone), everything - alone, 0.0)


@dataclass(frozen=True, eq=False)
class _Grouping:
    """Numbers of observations of each reflection, their sums less `first`, and where each observation belongs."""

    counts: FloatArray
    s1: FloatArray
    s2: FloatArray
    first: FloatArray
    of: IntArray
    relative: FloatArray

    @staticmethod
    def of_observations(grouped: Observations) -> _Grouping:
        starts = grouped.starts()
        counts = np.diff(np.append(starts, len(grouped)))
        first = grouped.intensity[starts]  # sums are of differences from it, which keeps their digits
        relative = grouped.intensity - np.repeat(first, counts)
        n = counts.astype(np.float64)
        if not len(starts):
            return _Grouping(n, n, n, first, starts, relative)
        sums = np.add.reduceat(relative, starts), np.add.reduceat(relative**2, starts)
        return _Grouping(n, *sums, first, np.repeat(np.arange(len(starts)), counts), relative)


def _reflections(grouped: Observations) -> FloatArray:
    """1, x, x^2 and e^2 of each reflection with a spread, shape (4, k)."""
    here = _Grouping.of_observations(grouped)
    return np.ascontiguousarray(_terms(here.counts, here.s1, here.s2, here.first)[:, here.counts >= 2])


def _changes(grouped: Observations) -> tuple[IntArray, FloatArray]:
    """How leaving out the lattice of an observation changes its reflection's 1, x, x^2 and e^2.

    Returns
    -------
    Lattices of the observations of reflections with a spread, shape (m,), and the changes, shape (4, m).
    """
    here = _Grouping.of_observations(grouped)
    rows = np.flatnonzero(here.counts[here.of] >= 2)
    of, value = here.of[rows], here.relative[rows]
    now = _terms(here.counts, here.s1, here.s2, here.first)[:, of]
    then = _terms(here.counts[of] - 1.0, here.s1[of] - value, here.s2[of] - value**2, here.first[of])
    return grouped.lattices[rows], then - now


def _terms(n: FloatArray, s1: FloatArray, s2: FloatArray, first: FloatArray) -> FloatArray:
    """1, x, x^2 and e^2 of reflections with n observations, shape (4, k); zeros where n < 2."""
    enough = n >= 2
    safe = np.where(enough, n, 2.0)
    mean = s1 / safe
    error = np.maximum(s2 / safe - mean**2, 0.0) / (safe - 1.0)
    x = mean + first
    return np.where(enough, np.stack([np.ones_like(x), x, x**2, error]), 0.0)


def _cc_half(sums: FloatArray) -> FloatArray:
    """CC1/2 of sums of 1, x, x^2 and e^2, shape (4, m) to (m,); NaN where fewer than three reflections define it.

    The variance of the means of all observations is tau^2 + e^2, and that of the means of halves tau^2 + 2 e^2.
    """
    n, x, x_squared, error = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (x_squared - x**2 / n) / (n - 1.0)
        mean_error = error / n
        result: FloatArray = (variance - mean_error) / (variance + mean_error)
    result[n < 3] = np.nan
    return result


def outliers(delta: FloatArray, n_sigma: float) -> IntArray:
    """Lattices whose difference lies this many standard deviations below the mean of all, worst first."""
    limit = delta.mean() - n_sigma * delta.std()
    bad = np.flatnonzero(delta < limit)
    return bad[np.argsort(delta[bad], kind="stable")]
