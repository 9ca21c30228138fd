"""How much each lattice adds to or takes from CC1/2: Assmann, Brehm & Diederichs (2016), J. Appl. Cryst. 49, 1021-1028.

CC1/2 is computed without halves, by the sigma-tau method: with x the mean of a reflection and e^2 the variance of that
mean, CC1/2 = (var(x) - <e^2>) / (var(x) + <e^2>) for halves of half as many observations, over the reflections with at
least two of them. Leaving a lattice out changes only its own reflections, so that all lattices take one pass.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from exafel._kernels import exact_sums
from exafel.arrays import FloatArray, IntArray
from exafel.merging.group import Observations
from exafel.merging.sums import total
from exafel.parallel.comm import Communicator

_BLOCK = 4096  # lattices whose exact sums are held at once


def delta_cc_half(parts: Iterable[Observations], n_lattices: int, comm: Communicator) -> tuple[float, FloatArray]:
    """CC1/2 of all lattices, and by how much it is larger than without each of them.

    Parameters
    ----------
    parts
        This rank's observations, sorted.
    n_lattices
        Number of lattices.
    comm
        The ranks.

    Returns
    -------
    CC1/2, and the differences by lattice number, shape (n_lattices,): negative for a lattice that makes it worse; 0
    where too little is left without it.
    """
    sums, changes = np.zeros((4, 0)), []
    for part in parts:
        sums_here, changes_here = _terms(part)
        sums = np.concatenate([sums, sums_here], axis=1)
        changes.append(changes_here)
    lattice = np.concatenate([item[0] for item in changes])
    terms = np.concatenate([item[1] for item in changes], axis=1)
    whole = total(exact_sums(sums, np.zeros(sums.shape[1], dtype=np.int64), 1), comm)[:, 0]
    without = whole[:, None] + _by_lattice(lattice, terms, n_lattices, comm)
    everything = float(_cc_half(whole[:, None])[0])
    alone = _cc_half(without)
    return everything, np.where(np.isfinite(alone), everything - alone, 0.0)


def _terms(grouped: Observations) -> tuple[FloatArray, tuple[IntArray, FloatArray]]:
    """1, x, x^2 and e^2 of each reflection with a spread (4, k), and how leaving a lattice out changes them.

    The second are the lattices of the observations that have such a reflection, and the changes, shape (4, m).
    """
    starts = grouped.starts()
    counts = np.diff(np.append(starts, len(grouped))).astype(np.float64)
    first = grouped.intensity[starts]  # sums are of differences from it, which keeps their digits
    relative = grouped.intensity - np.repeat(first, counts.astype(np.int64))
    s1 = np.add.reduceat(relative, starts) if len(starts) else counts
    s2 = np.add.reduceat(relative**2, starts) if len(starts) else counts
    spread = counts >= 2
    now = _reflection_terms(counts, s1, s2, first)
    of = np.repeat(np.arange(len(starts)), counts.astype(np.int64))
    rows = np.flatnonzero(spread[of])
    of, value = of[rows], relative[rows]
    then = _reflection_terms(counts[of] - 1.0, s1[of] - value, s2[of] - value**2, first[of])
    return now[:, spread], (grouped.lattices[rows], then - now[:, of])


def _reflection_terms(n: FloatArray, s1: FloatArray, s2: FloatArray, first: FloatArray) -> FloatArray:
    """1, x, x^2 and e^2 of reflections with n observations, shape (4, k); zeros where n < 2."""
    enough = n >= 2
    safe = np.where(enough, n, 2.0)
    mean = s1 / safe
    error = np.maximum(s2 / safe - mean**2, 0.0) / (safe - 1.0)
    x = mean + first
    return np.where(enough, np.stack([np.ones_like(x), x, x**2, error]), 0.0)


def _by_lattice(lattice: IntArray, terms: FloatArray, n_lattices: int, comm: Communicator) -> FloatArray:
    """Sums of terms (4, m) by lattice, the same bits on any number of ranks, shape (4, n_lattices)."""
    order = np.argsort(lattice, kind="stable")
    lattice, terms = lattice[order], terms[:, order]
    blocks = []
    for first in range(0, n_lattices, _BLOCK):
        size = min(_BLOCK, n_lattices - first)
        rows = slice(*np.searchsorted(lattice, [first, first + size]))
        digits = exact_sums(np.ascontiguousarray(terms[:, rows]), lattice[rows] - first, size)
        blocks.append(total(digits, comm))
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((4, 0))


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
