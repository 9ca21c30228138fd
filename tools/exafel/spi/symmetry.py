"""A particle's point group, imposed on what is merged."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, Float32Array, FloatArray
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
    inside = cube.half_radius <= m / 2
    line = np.fft.fftfreq(m) * m
    grid = np.stack(np.meshgrid(line, line, np.arange(m // 2 + 1), indexing="ij"))[:, inside]
    grid = grid * (2 * np.pi / m)
    modes = backend.array(a, dtype=backend.xp.complex64)
    total = np.zeros(grid.shape[1])
    for turn in matrices(group):
        total += backend.host(backend.nufft.type2(backend.array(turn.T @ grid), modes)).real
    intensities = np.zeros(inside.shape, dtype=np.complex64)
    intensities[inside] = total / len(group)
    back = backend.host(backend.irfftn(backend.xp.asarray(intensities), m))
    result: Float32Array = (np.fft.fftshift(back) * cube.ball((m // 2) * cube.voxel_angstrom)).astype(np.float32)
    return result
