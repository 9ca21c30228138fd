"""Merge: the autocorrelation that fits all images in their orientations, by normal equations that all ranks share.

The unknown a is real, even and zero beyond the particle's diameter. With A the type-2 transform to all pixels, the
least-squares problem Σ w (A a - d)² + λ Σw |a|² has the normal equations

    (A* w A + λ Σw) a = A* w d

where A* w A is a convolution with the kernel K(x) = Σ w cos(k·x), and so a product after a Fourier transform on a cube
twice as wide (Feichtinger, Gröchenig & Strohmer 1995, Numer. Math. 69, 423; for M-TIP: Donatelli, Sethian & Zwart 2017,
PNAS 114, 7222). K and A* w d come from one complex type-1 transform of w + i w d. Both are sums over images: ranks add
theirs up and have all images' equations, of a size that does not depend on the number of images or ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from exafel.arrays import AnyArray, DeviceArray, Int32Array, IntArray
from exafel.errors import ExafelError
from exafel.parallel.comm import Communicator
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels
from exafel.spi.slicing import even

_FULL = 2.0**30
"""Sums are integers of this many steps, so that they do not depend on the order of ranks."""


@dataclass(eq=False)
class NormalSums:
    """Sums of the normal equations over images, as integers: exact in any order.

    A sum of cosines is at most the sum of its weights. In units of 2^-30 of the largest that the sum over all images
    can be, it fits into 32 bits, and the rounding is below that of the transform by two orders.

    Of what is even only half is kept, and of that what the solution asks for: autocorrelations within a ball as wide
    as the cube, and K at the differences of their voxels.

    Parameters
    ----------
    kernel
        K on the cube of side 2m, at the voxels of `_needed`.
    right
        A* w d on the cube of side m, at the voxels of `_needed`.
    """

    kernel: Int32Array
    right: Int32Array

    @staticmethod
    def empty(cube: Cube) -> NormalSums:
        """Sums over nothing."""
        kernel, right = (np.zeros(len(voxels), dtype=np.int32) for voxels in _needed(cube.m))
        return NormalSums(kernel, right)

    @property
    def nbytes(self) -> int:
        """Bytes that one rank gives to the sum over ranks."""
        return self.kernel.nbytes + self.right.nbytes

    def summed(self, comm: Communicator) -> NormalSums:
        """Sum over all ranks."""
        return NormalSums(comm.allreduce_array(self.kernel), comm.allreduce_array(self.right))


@lru_cache(maxsize=1)
def _needed(m: int) -> tuple[IntArray, IntArray]:
    """Voxels of the sums, flattened: of K in an array of shape (m, 2m, 2m), of A* w d in one of (m // 2 + 1, m, m).

    In either x >= 0 along the first axis, and the origin is in the middle of the others. K reaches m - 1 voxels far,
    the difference of two that are opposite on the ball.
    """

    def ball(radius: int, before: int, after: int) -> IntArray:
        across = np.arange(-before, after) ** 2
        inside = np.arange(radius + 1)[:, None, None] ** 2 + across[:, None] + across <= radius**2
        return np.flatnonzero(inside)

    half = m // 2
    return ball(m - 1, m, m), ball(half, half, half + 1)


@dataclass(frozen=True)
class Units:
    """What one is worth in the integers: sums of weights, and of weighted data, over all images of all ranks."""

    weight: float
    data: float


def add_images(
    sums: NormalSums,
    units: Units,
    d: AnyArray,
    weight: AnyArray,
    quaternions: AnyArray,
    cube: Cube,
    pixels: Pixels,
    backend: Backend,
) -> None:
    """Add some images to the sums, in place.

    Parameters
    ----------
    d
        Intensities on the model's scale, shape (n, pixels), on the device.
    weight
        Weight of every image times that of every pixel, shape (n, pixels), on the device.
    quaternions
        Orientations, shape (n, 4).
    """
    xp, m = backend.xp, cube.m
    strengths = (weight / units.weight + 1j * (weight * d / units.data)).astype(xp.complex64).ravel()
    modes = backend.nufft.type1(pixels.rotated(quaternions, cube, backend), strengths, 2 * m)
    middle, half = m, m // 2
    # what is even in x: index 2m - i is the inverse of i, and -m, which has none, is not needed
    inverse = (2 * m - xp.arange(2 * m)) % (2 * m)
    upper = modes[middle:]
    lower = modes[xp.ix_(inverse[middle:], inverse, inverse)]
    mean = (upper + lower) * np.float32(0.5 * _FULL)
    middle_part = slice(middle - half, middle + half + 1)
    kernel, right = _needed(m)  # picked on the host: a device would be sent as many indices as it gives sums
    data = mean.imag[: half + 1, middle_part, middle_part]
    sums.kernel += backend.host(xp.rint(mean.real).astype(np.int32)).ravel()[kernel]
    sums.right += backend.host(xp.rint(data).astype(np.int32)).ravel()[right]


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """The equations, ready to be solved for several λ.

    Parameters
    ----------
    kernel
        Real transform of K on the cube of side 2m, in units of the sum of weights.
    right
        A* w d in the same units, shape (m, m, m).
    support
        Where a may differ from zero, within the ball as wide as the cube; float32, shape (m, m, m).
    """

    kernel: AnyArray
    right: AnyArray
    support: AnyArray
    backend: Backend

    @staticmethod
    def of(sums: NormalSums, units: Units, cube: Cube, support: AnyArray, backend: Backend) -> NormalEquations:
        """Make the equations from sums over all images."""
        xp, m = backend.xp, cube.m
        kernel = xp.zeros((2 * m, 2 * m, 2 * m), dtype=np.float32)
        upper = _spread(sums.kernel, _needed(m)[0], (m, 2 * m, 2 * m), 1 / _FULL, backend)
        inverse = (2 * m - xp.arange(2 * m)) % (2 * m)
        kernel[m:] = upper
        kernel[m - 1 : 0 : -1] = upper[1:][:, inverse][:, :, inverse]
        transform = backend.rfftn(xp.fft.ifftshift(kernel)).real
        unit = units.data / units.weight / _FULL
        half = _spread(sums.right, _needed(m)[1], (m // 2 + 1, m, m), unit, backend)
        right = xp.concatenate([half[:0:-1, ::-1, ::-1], half])
        mask = backend.array(support)
        return NormalEquations(transform, right * mask, mask, backend)

    def apply(self, a: AnyArray) -> DeviceArray:
        """A* w A a within the support."""
        m = len(a)
        padded = self.backend.xp.zeros((2 * m, 2 * m, 2 * m), dtype=np.float32)
        padded[:m, :m, :m] = a
        product = self.backend.irfftn(self.backend.rfftn(padded) * self.kernel, 2 * m)
        return product[:m, :m, :m] * self.support

    def solve(self, lam: float, start: AnyArray | None, steps: int, tolerance: float) -> Solution:
        """Solve by conjugate gradients (Hestenes & Stiefel 1952) from a start.

        Parameters
        ----------
        lam
            λ in units of the sum of weights.
        """
        xp = self.backend.xp
        x = xp.zeros_like(self.right) if start is None else start * self.support
        residual = self.right - self.apply(x) - lam * x
        direction, rho = residual.copy(), _dot(residual, residual)
        target = tolerance**2 * _dot(self.right, self.right)
        done = 0
        while done < steps and rho > target:
            image = self.apply(direction) + lam * direction
            alpha = np.float32(rho / max(_dot(direction, image), 1e-300))
            x = x + alpha * direction
            residual = residual - alpha * image
            rho, before = _dot(residual, residual), rho
            direction = residual + np.float32(rho / before) * direction
            done += 1
        return Solution(even(x), lam, done, (rho / max(_dot(self.right, self.right), 1e-300)) ** 0.5)


@dataclass(frozen=True, eq=False)
class Solution:
    """An autocorrelation, the λ and the steps that it took, and the relative residual that is left."""

    a: AnyArray
    lam: float
    steps: int
    residual: float

    @property
    def finite(self) -> bool:
        """Whether it is a number everywhere."""
        return bool(np.isfinite(self.residual)) and bool(abs(self.a).max() < np.inf)


def _spread(
    values: Int32Array, voxels: IntArray, shape: tuple[int, int, int], unit: float, backend: Backend
) -> DeviceArray:
    """Values at some voxels of an array of zeros, times a unit."""
    result = np.zeros(shape, dtype=np.float32)
    result.reshape(-1)[voxels] = values
    return backend.array(result) * np.float32(unit)


def _dot(a: AnyArray, b: AnyArray) -> float:
    return float((a * b).sum(dtype=np.float64))


def solve_path(
    equations: NormalEquations, lambdas: Sequence[float], start: AnyArray | None, steps: int, tolerance: float
) -> list[Solution]:
    """Solve for several λ, the largest first and each from the last; solutions that are not finite are left out.

    Raises
    ------
    ExafelError
        None is finite.
    """
    solutions: list[Solution] = []
    for lam in sorted(lambdas, reverse=True):
        solution = equations.solve(lam, solutions[-1].a if solutions else start, steps, tolerance)
        if solution.finite:
            solutions.append(solution)
    if not solutions:
        raise ExafelError("merging gave no finite intensities", hint="are there NaN or huge values in the images?")
    return solutions
