"""Sums over all ranks whose last bit depends neither on the order of the terms nor on the number of ranks.

Terms are cut into integers on grids fixed by the largest term of all ranks, coarse grid first; integers add without
rounding in any order (pre-rounding: Demmel & Nguyen (2013), 21st IEEE Symposium on Computer Arithmetic, 163-172).
"""

from __future__ import annotations

import math

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.parallel.comm import Communicator

_KEPT_BITS = 60
"""Bits below the largest term that take part: more than a double has."""
_EXACT_BITS = 53


class RankSums:
    """Reproducible sums by group.

    Parameters
    ----------
    comm
        The ranks.
    n_terms
        Number of terms on this rank, in every sum to be made.
    """

    def __init__(self, comm: Communicator, n_terms: int) -> None:
        self._comm = comm
        total = max(sum(comm.allgather(n_terms)), 1)
        self._bits = _EXACT_BITS - 1 - math.ceil(math.log2(total) if total > 1 else 0)
        self._levels = math.ceil(_KEPT_BITS / self._bits)

    def __call__(self, values: FloatArray, groups: IntArray, n_groups: int) -> FloatArray:
        """Sum each row of `values` by group.

        Parameters
        ----------
        values
            Finite terms, shape (k, n).
        groups
            Group of each term, 0 to n_groups - 1, shape (n,).

        Returns
        -------
        Sums over all ranks, shape (k, n_groups); the same bits on every rank.
        """
        local = np.abs(values).max(axis=1, initial=0.0)
        largest = np.max(self._comm.allgather(local), axis=0)
        exponent = np.frexp(largest)[1].astype(np.int64)  # every |term| <= 2^exponent
        rest = values
        parts = np.empty((self._levels, len(values), n_groups))
        for level in range(self._levels):
            grid = self._bits * (level + 1) - exponent
            integers = np.rint(np.ldexp(rest, grid[:, None]))
            parts[level] = [np.bincount(groups, weights=row, minlength=n_groups) for row in integers]
            rest = rest - np.ldexp(integers, -grid[:, None])
        totals = self._comm.allreduce_sum(parts)
        sums: FloatArray = np.zeros((len(values), n_groups))
        for level in reversed(range(self._levels)):
            sums += np.ldexp(totals[level], (exponent - self._bits * (level + 1))[:, None])
        return sums
