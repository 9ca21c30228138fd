"""Non-uniform FFTs in plain array code, for devices without a library of them.

Points are spread to, or gathered from, a grid twice as fine with the "exponential of semicircle" kernel
(Barnett, Magland & af Klinteberg 2019, SIAM J. Sci. Comput. 41, C479, eq. 1.8), whose transform is divided out.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from exafel.arrays import AnyArray, DeviceArray, FloatArray

_WIDTH = 6
_BETA = 2.3 * _WIDTH
_CHUNK = 4_000_000


def _kernel(xp: Any, z: AnyArray) -> DeviceArray:
    """Kernel at |z| <= 1; 0 outside."""
    inside = xp.maximum(1 - z * z, 0)
    return xp.where(inside > 0, xp.exp(_BETA * (xp.sqrt(inside) - 1)), 0)


def _kernel_transform(m: int, fine: int) -> FloatArray:
    """Fourier transform of the kernel at the centred modes of a cube of side `m`, one axis."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    k = np.arange(m) - m // 2
    phase = np.cos(np.outer(k * (np.pi * _WIDTH / fine), nodes))
    return np.asarray(phase @ (weights * _kernel(np, nodes)) * (_WIDTH / 2), dtype=np.float64)


class GriddingTransforms:
    """Types 1 and 2 with errors near 1e-5 in double and 1e-4 in single precision.

    Parameters
    ----------
    xp
        ``numpy`` or ``cupy``.
    fft
        Its module of complex FFTs.
    """

    def __init__(self, xp: ModuleType, fft: ModuleType) -> None:
        self._xp: Any = xp
        self._fft: Any = fft

    def type1(self, points: AnyArray, strengths: AnyArray, m: int) -> DeviceArray:
        """Sum strengths at points into modes, shape (m, m, m)."""
        xp, fine = self._xp, 2 * m
        grid = xp.zeros(fine**3, dtype=strengths.dtype)
        parts = [grid.real.copy(), grid.imag.copy()]
        for rows, index, weight in self._taps(points, fine):
            value = strengths[rows] * weight
            for part, x in zip(parts, (value.real, value.imag), strict=True):
                part += xp.bincount(index, weights=x, minlength=fine**3).astype(part.dtype)
        grid = (parts[0] + 1j * parts[1]).reshape(fine, fine, fine)
        spectrum = self._fft.ifftn(grid) * fine**3
        keep = (xp.arange(m) - m // 2) % fine
        return (spectrum[xp.ix_(keep, keep, keep)] / self._correction(m, fine)).astype(strengths.dtype)

    def type2(self, points: AnyArray, modes: AnyArray) -> DeviceArray:
        """Evaluate modes at points, shape (n,)."""
        xp, m = self._xp, modes.shape[0]
        fine = 2 * m
        spectrum = xp.zeros((fine, fine, fine), dtype=modes.dtype)
        keep = (xp.arange(m) - m // 2) % fine
        spectrum[xp.ix_(keep, keep, keep)] = modes / self._correction(m, fine)
        grid = (self._fft.ifftn(spectrum) * fine**3).astype(modes.dtype).ravel()
        result = xp.zeros(points.shape[1], dtype=modes.dtype)
        for rows, index, weight in self._taps(points, fine):
            result[rows] += grid[index] * weight
        return result

    def _correction(self, m: int, fine: int) -> DeviceArray:
        line = self._xp.asarray(_kernel_transform(m, fine), dtype=np.float32)
        return line[:, None, None] * line[None, :, None] * line[None, None, :]

    def _taps(self, points: AnyArray, fine: int) -> Iterator[tuple[slice, AnyArray, AnyArray]]:
        """Yield, for each of the kernel's cells, the grid index and weight of every point of a chunk."""
        xp = self._xp
        for first in range(0, points.shape[1], _CHUNK):
            rows = slice(first, first + _CHUNK)
            place = points[:, rows] * (fine / (2 * np.pi))
            start = xp.ceil(place - _WIDTH / 2)
            offset = start - place
            start = start.astype(xp.int32)
            lines = [
                [
                    ((start[axis] + tap) % fine, _kernel(xp, (offset[axis] + tap) * (2 / _WIDTH)))
                    for tap in range(_WIDTH)
                ]
                for axis in range(3)
            ]
            for i0, w0 in lines[0]:
                for i1, w1 in lines[1]:
                    index01, weight01 = (i0 * fine + i1) * fine, w0 * w1
                    for i2, w2 in lines[2]:
                        yield rows, index01 + i2, weight01 * w2
