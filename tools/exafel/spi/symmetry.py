"""A particle's point group, imposed on what is merged, or on a density."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube
from exafel.spi.rotations import matrices


def symmetrised(a: AnyArray, cube: Cube, group: FloatArray, backend: Backend) -> Float32Array:
    """Average an autocorrelation over a point group.

    Its intensities are evaluated at the rotated points of their own grid, which a band-limited function allows exactly
    (to the accuracy of the transform), and averaged within the sphere of resolution.

    Parameters
    ----------
    a
        Shape (m, m, m), origin in the middle, on the host.
    group
        Rotations, shape (order, 4).
    """
    m = cube.m
    inside, grid = _points(cube)
    modes = backend.array(a, dtype=backend.xp.complex64)
    total = np.zeros(grid.shape[1])
    for turn in matrices(group):
        total += backend.host(backend.nufft.type2(backend.array(turn.T @ grid), modes)).real
    intensities = np.zeros(inside.shape, dtype=np.complex64)
    intensities[inside] = total / len(group)
    back = backend.host(backend.irfftn(backend.xp.asarray(intensities), m))
    result: Float32Array = (np.fft.fftshift(back) * cube.ball((m // 2) * cube.voxel_angstrom)).astype(np.float32)
    return result


def symmetrised_density(density: AnyArray, cube: Cube, group: FloatArray, backend: Backend) -> Float32Array:
    """Average a density over a point group whose axes meet in its centre of mass, which comes to the origin.

    Parameters
    ----------
    density
        Shape (m, m, m), origin in the middle, on the host.
    group
        Rotations, shape (order, 4).
    """
    m = cube.m
    inside, grid = _points(cube)
    line = np.arange(m) - m // 2
    positive = np.maximum(density, 0).astype(np.float64)
    mass = max(float(positive.sum()), 1e-300)
    centre = [float(positive.sum(axis=tuple({0, 1, 2} - {axis})) @ line) / mass for axis in range(3)]
    modes = backend.array(density, dtype=backend.xp.complex64)
    total = np.zeros(grid.shape[1], dtype=np.complex128)
    for turn in matrices(group):
        points = turn.T @ grid
        values = backend.host(backend.nufft.type2(backend.array(-points), modes))  # the FFT has exp(-ikx)
        total += values * np.exp(1j * (centre @ points))
    transform = np.zeros(inside.shape, dtype=np.complex64)
    transform[inside] = total / len(group)
    back = backend.host(backend.irfftn(backend.xp.asarray(transform), m))
    result: Float32Array = np.fft.fftshift(back).astype(np.float32)
    return result


def _points(cube: Cube) -> tuple[BoolArray, FloatArray]:
    """Points of a real FFT within the sphere of resolution: where, and in radians a voxel, shape (3, n)."""
    m = cube.m
    inside = np.asarray(cube.half_radius <= m / 2)
    line = np.fft.fftfreq(m) * m
    grid = np.stack(np.meshgrid(line, line, np.arange(m // 2 + 1), indexing="ij"))[:, inside]
    return inside, np.asarray(grid * (2 * np.pi / m))
