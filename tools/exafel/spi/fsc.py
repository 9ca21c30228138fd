"""Fourier shell correlation, phase-retrieval transfer, and the resolutions read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.spi.grids import Cube


@dataclass(frozen=True, eq=False)
class Curve:
    """A quantity by shell.

    Parameters
    ----------
    s
        Middle of every shell, 1/angstrom.
    value
        In [-1, 1]; NaN in a shell without signal.
    """

    s: FloatArray
    value: FloatArray

    def resolution(self, threshold: float) -> float | None:
        """Resolution in angstrom at which the curve first falls below a threshold; None where it begins below it.

        A curve that never falls below it is good to its last shell.
        """
        known = np.isfinite(self.value)
        s, value = self.s[known], self.value[known]
        below = np.flatnonzero(value < threshold)
        if not len(value) or not len(below):
            return float(1 / s[-1]) if len(s) else None
        first = int(below[0])
        if first == 0:
            return None
        high, low = value[first - 1], value[first]
        return float(1 / (s[first - 1] + (s[first] - s[first - 1]) * (high - threshold) / (high - low)))


def shells(cube: Cube) -> tuple[AnyArray, FloatArray]:
    """Shell of every point of a real FFT (one point wide; -1 at the origin and beyond), and their |s|."""
    shell = np.rint(cube.half_radius).astype(np.int64)
    last = cube.m // 2
    shell[(shell > last) | (shell == 0)] = 0
    return shell - 1, np.arange(1, last + 1) / cube.box_angstrom


def fsc(first: AnyArray, second: AnyArray, cube: Cube) -> Curve:
    """Fourier shell correlation of two real FFTs, Re Σ F G* / √(Σ|F|² Σ|G|²).

    Harauz & van Heel 1986, Optik 73, 146.
    """
    shell, s = shells(cube)
    keep = shell >= 0
    weight = np.full(first.shape, 2.0)
    weight[..., 0] = 1.0  # the points that a real FFT leaves out are the mates of all but this plane
    sums = [
        np.bincount(shell[keep], weights=(weight * x)[keep], minlength=len(s))
        for x in ((first * np.conj(second)).real, np.abs(first) ** 2, np.abs(second) ** 2)
    ]
    power = np.sqrt(sums[1] * sums[2])
    value = np.divide(sums[0], power, out=np.full(len(s), np.nan), where=power > 0)
    return Curve(s, value)


def prtf(transforms: Sequence[AnyArray], cube: Cube) -> Curve:
    """Phase-retrieval transfer function (Chapman et al. 2006, J. Opt. Soc. Am. A 23, 1179): |⟨F/|F|⟩| by shell.

    Parameters
    ----------
    transforms
        Real FFTs of densities from independent starts, aligned with one another.
    """
    shell, s = shells(cube)
    unit = np.mean([F / np.maximum(np.abs(F), 1e-20) for F in transforms], axis=0)
    keep = shell >= 0
    sums = np.bincount(shell[keep], weights=np.abs(unit)[keep], minlength=len(s))
    counts = np.bincount(shell[keep], minlength=len(s))
    return Curve(s, np.divide(sums, counts, out=np.full(len(s), np.nan), where=counts > 0))
