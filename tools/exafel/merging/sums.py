"""Sums over all ranks whose last bit depends neither on the order of the terms nor on the number of ranks.

The kernels add doubles exactly, as fixed-point numbers of 32-bit digits; digits of ranks add exactly too, and only the
final sum is rounded (Kulisch (2013), Computer Arithmetic and Validity, chapter 8).
"""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.parallel.comm import Communicator

_DIGIT_BITS = 32
_LOWEST_EXPONENT = -1074


def total(digits: IntArray, comm: Communicator) -> FloatArray:
    """Add exact sums of all ranks and round them.

    Parameters
    ----------
    digits
        This rank's sums from a kernel, lowest digit first, shape (..., n_digits).
    comm
        The ranks; up to a million of them keep the sums exact.

    Returns
    -------
    Sums over all ranks, shape (...,); the same bits on every rank.
    """
    added = _carried(comm.allreduce_sum(digits.astype(np.float64)).astype(np.int64))
    sign = np.where(added[..., -1] < 0, -1, 1)
    magnitude = _carried(added * sign[..., None])  # the digits of a negative number are all but endless
    result: FloatArray = np.zeros(sign.shape)
    for place in range(magnitude.shape[-1]):  # from the lowest, so that only the last bit or two is rounded
        result += np.ldexp(magnitude[..., place].astype(np.float64), _DIGIT_BITS * place + _LOWEST_EXPONENT)
    return result * sign


def _carried(digits: IntArray) -> IntArray:
    """Bring all digits but the last into [0, 2^32)."""
    result = digits.copy()
    carry = np.zeros(digits.shape[:-1], dtype=np.int64)
    for place in range(digits.shape[-1] - 1):
        value = digits[..., place] + carry
        carry = value >> _DIGIT_BITS
        result[..., place] = value - (carry << _DIGIT_BITS)
    result[..., -1] += carry
    return result
