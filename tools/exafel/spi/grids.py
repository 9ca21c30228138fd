"""The cube that a density, its autocorrelation and its intensities live on, and the pixels that look into it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from exafel.arrays import AnyArray, BoolArray, DeviceArray, Float32Array, FloatArray
from exafel.errors import InputError
from exafel.spi.backend import Backend
from exafel.spi.rotations import matrices


@dataclass(frozen=True)
class Cube:
    """A cube of voxels in real space; its transform samples reciprocal space at multiples of 1/box.

    Index i of an axis stands for (i - m // 2) voxels: the origin is a voxel. In reciprocal space, likewise.

    Parameters
    ----------
    m
        Voxels along an edge; odd, so that the inverse of every voxel is a voxel.
    voxel_angstrom
        Edge of a voxel: half the resolution, so that intensities up to it fit.
    """

    m: int
    voxel_angstrom: float

    @staticmethod
    def for_particle(diameter_angstrom: float, d_min_angstrom: float) -> Cube:
        """Cube in which the autocorrelation, twice as wide as the particle, just fits."""
        voxel = d_min_angstrom / 2
        return Cube(odd_fast_length(2 * diameter_angstrom / voxel + 1), voxel)

    @property
    def box_angstrom(self) -> float:
        """Edge of the cube."""
        return self.m * self.voxel_angstrom

    @property
    def d_min_angstrom(self) -> float:
        """Resolution of the voxels."""
        return 2 * self.voxel_angstrom

    @cached_property
    def radius(self) -> Float32Array:
        """Distance of every voxel from the origin in voxels, shape (m, m, m)."""
        line = (np.arange(self.m) - self.m // 2).astype(np.float32) ** 2
        return np.asarray(np.sqrt(line[:, None, None] + line[None, :, None] + line[None, None, :]), dtype=np.float32)

    @cached_property
    def half_radius(self) -> Float32Array:
        """|s| at the points of a real FFT, in units of 1/box, shape (m, m, m // 2 + 1), zero first."""
        line = (np.fft.fftfreq(self.m) * self.m).astype(np.float32) ** 2
        last = np.arange(self.m // 2 + 1, dtype=np.float32) ** 2
        return np.asarray(np.sqrt(line[:, None, None] + line[None, :, None] + last), dtype=np.float32)

    def ball(self, radius_angstrom: float) -> BoolArray:
        """Voxels within a distance of the origin, shape (m, m, m)."""
        return np.asarray(self.radius <= radius_angstrom / self.voxel_angstrom)


def odd_fast_length(least: float) -> int:
    """Return the smallest odd number, not below `least`, without prime factors above 11: FFTs of it are fast."""
    n = int(np.ceil(least)) | 1
    while True:
        rest = n
        for factor in (3, 5, 7, 11):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 2


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of a detector by their scattering vectors.

    Parameters
    ----------
    s
        Scattering vectors in 1/angstrom, (unit(pixel) - unit(beam)) / wavelength, shape (3, n).
    index
        Their numbers among all pixels of the detector, flattened, shape (n,).
    """

    s: FloatArray
    index: AnyArray

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def length(self) -> FloatArray:
        """|s| in 1/angstrom, shape (n,)."""
        return np.asarray(np.linalg.norm(self.s, axis=0), dtype=np.float64)

    def within(self, d_min_angstrom: float) -> Pixels:
        """Pixels up to a resolution.

        Raises
        ------
        InputError
            There are fewer than ten.
        """
        keep = self.length <= 1 / d_min_angstrom
        if keep.sum() < 10:
            raise InputError(
                f"{int(keep.sum())} pixels are left up to {d_min_angstrom:g} Å", hint="is the geometry in metres?"
            )
        return Pixels(self.s[:, keep], self.index[keep])

    def rotated(self, quaternions: AnyArray, cube: Cube, backend: Backend) -> DeviceArray:
        """Points R(q)^T s at which pixels see the particle, in radians a voxel, shape (3, orientations · pixels).

        They are made when needed and never stored: three floats a pixel and orientation would be gigabytes.
        """
        xp = backend.xp
        turn = matrices(backend.array(quaternions, dtype=xp.float32))
        s = backend.array(self.s * (2 * np.pi * cube.voxel_angstrom))
        return xp.matmul(xp.ascontiguousarray(turn.transpose(2, 0, 1)), s).reshape(3, -1)
