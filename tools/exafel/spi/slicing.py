"""Slice: what every pixel sees of a particle in given orientations, by type-2 non-uniform FFTs.

The intensity at s is the transform of the autocorrelation a (real and even): I(s) = Σ_x a(x) exp(2πi s·x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from exafel.arrays import AnyArray
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels

POINTS_A_BATCH = 2_000_000
"""Points of one transform: enough to hide its fixed cost, little enough for memory."""


def batches(n: int, n_pixels: int, points: int = POINTS_A_BATCH) -> Iterator[slice]:
    """Yield runs of orientations whose pixels together are at most `points`."""
    step = max(1, points // n_pixels)
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))


def slices(
    models: Sequence[AnyArray], quaternions: AnyArray, cube: Cube, pixels: Pixels, backend: Backend
) -> list[AnyArray]:
    """Intensities of one or two models at the pixels of every orientation.

    Two models share one complex transform: as real even functions they have real transforms, which come out as its
    real and imaginary parts.

    Parameters
    ----------
    models
        One or two autocorrelations, shape (m, m, m), on the device.
    quaternions
        Orientations, shape (n, 4).

    Returns
    -------
    Of each model, float32, shape (n, pixels).
    """
    modes = models[0] + 0j if len(models) == 1 else models[0] + 1j * models[1]
    values = backend.nufft.type2(pixels.rotated(quaternions, cube, backend), modes.astype(backend.xp.complex64))
    values = values.reshape(len(quaternions), len(pixels))
    return [values.real] if len(models) == 1 else [values.real, values.imag]


def slices_with_gradient(
    model: AnyArray, quaternions: AnyArray, cube: Cube, pixels: Pixels, backend: Backend
) -> tuple[AnyArray, AnyArray]:
    """Intensities and their derivatives by small rotations of the particle.

    With k = R^T s, turning the particle's frame by a small vector δ moves k to k + δ × k, so that
    dI/dδ = k × ∇I(k), and ∇I is the transform of i x a(x). As x a(x) is odd, two complex transforms give all four:
    those of a + x₁a, and of x₂a + i x₃a.

    Returns
    -------
    intensities
        Shape (n, pixels).
    derivatives
        By the three components of δ in radians, shape (n, 3, pixels).
    """
    xp = backend.xp
    line = xp.arange(cube.m, dtype=xp.float32) - cube.m // 2
    k = pixels.rotated(quaternions, cube, backend)
    first = backend.nufft.type2(k, (model * (1 + line[:, None, None])).astype(xp.complex64))
    second = backend.nufft.type2(k, (model * (line[None, :, None] + 1j * line[None, None, :])).astype(xp.complex64))
    # of an odd function f, Σ f exp(ikx) = i Σ f sin(kx), and ∇I = -Σ x a sin(kx)
    gradient = (-first.imag, -second.imag, second.real)
    shape = (len(quaternions), len(pixels))
    turned = xp.stack(
        [
            (k[1] * gradient[2] - k[2] * gradient[1]).reshape(shape),
            (k[2] * gradient[0] - k[0] * gradient[2]).reshape(shape),
            (k[0] * gradient[1] - k[1] * gradient[0]).reshape(shape),
        ],
        axis=1,
    )
    return first.real.reshape(shape), turned


def even(volume: AnyArray) -> AnyArray:
    """Mean of a volume of odd side and its inverse through the origin."""
    return (volume + volume[::-1, ::-1, ::-1]) * np.float32(0.5)
