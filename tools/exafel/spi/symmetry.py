"""A particle's point group, imposed on what is merged, or on a density.

Rotations that carry the voxels of a cube onto one another (quarter turns about its axes, three-fold turns about its
diagonals) are exact and cost no more than a copy. Those of a group are a subgroup H, and the average over the group is
that over H, then over one rotation of every coset g H: only these have to be transformed. Of D8's 16 rotations it is
one, of T's and O's none, of I's 60 it is four.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, DeviceArray, Float32Array, FloatArray, IntArray
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube
from exafel.spi.rotations import matrices


@dataclass(frozen=True, eq=False)
class Cosets:
    """A group of rotations as its subgroup that permutes voxels, and one rotation of each of its cosets.

    Parameters
    ----------
    exact
        Matrices of whole numbers, shape (3, 3), the identity among them.
    turns
        Matrices of the other cosets, shape (3, 3): those that voxels have no place for.
    """

    exact: tuple[IntArray, ...]
    turns: tuple[FloatArray, ...]

    @staticmethod
    def of(group: FloatArray) -> Cosets:
        """Take a group apart; its rotations are quaternions, shape (order, 4)."""
        left = [np.asarray(turn) for turn in matrices(group)]
        exact = [np.rint(turn) for turn in left if np.allclose(turn, np.rint(turn), atol=1e-6)]
        turns: list[FloatArray] = []
        while left:
            turns.append(left[0])
            coset = [left[0] @ other for other in exact]
            left = [turn for turn in left if not any(np.allclose(turn, known, atol=1e-6) for known in coset)]
        others = (turn for turn in turns if not np.allclose(turn, np.rint(turn), atol=1e-6))
        return Cosets(tuple(turn.astype(np.int64) for turn in exact), tuple(others))


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
    averaged = _average(backend.array(a), cube, group, backend)
    result: Float32Array = averaged * cube.ball((cube.m // 2) * cube.voxel_angstrom)
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
    xp, m = backend.xp, cube.m
    inside, grid = _points(cube)
    line = np.arange(m) - m // 2
    positive = np.maximum(density, 0).astype(np.float64)
    mass = max(float(positive.sum()), 1e-300)
    centre = [float(positive.sum(axis=tuple({0, 1, 2} - {axis})) @ line) / mass for axis in range(3)]
    transform = backend.rfftn(xp.fft.ifftshift(backend.array(density)))
    phase = np.zeros(inside.shape, dtype=np.complex64)  # zero beyond the resolution
    phase[inside] = np.exp(1j * (centre @ grid))
    centred = xp.fft.fftshift(backend.irfftn(transform * backend.xp.asarray(phase), m))
    return _average(centred, cube, group, backend)


def _average(x: AnyArray, cube: Cube, group: FloatArray, backend: Backend) -> Float32Array:
    """Average what is on the device over a group, within the sphere of resolution; the result is on the host."""
    xp, m, cosets = backend.xp, cube.m, Cosets.of(group)
    inside, grid = _points(cube)
    mean = sum(_permuted(x, turn) for turn in cosets.exact) * np.float32(1 / len(cosets.exact))
    total = backend.host(backend.rfftn(xp.fft.ifftshift(mean)))[inside]
    modes = mean.astype(xp.complex64)
    for turn in cosets.turns:
        total = total + backend.host(backend.nufft.type2(backend.array(-(turn.T @ grid)), modes))  # FFT: exp(-ikx)
    transform = np.zeros(inside.shape, dtype=np.complex64)
    transform[inside] = total / (1 + len(cosets.turns))
    back = backend.host(backend.irfftn(xp.asarray(transform), m))
    result: Float32Array = np.fft.fftshift(back).astype(np.float32)
    return result


def _permuted(x: AnyArray, turn: IntArray) -> DeviceArray:
    """Return x(R^T r) for a rotation that carries voxels onto voxels; the side is odd, and the origin stays."""
    axes = np.abs(turn).argmax(axis=1)
    signs = turn[np.arange(3), axes]
    return x.transpose(tuple(int(axis) for axis in axes))[tuple(slice(None, None, int(sign)) for sign in signs)]


def _points(cube: Cube) -> tuple[BoolArray, FloatArray]:
    """Points of a real FFT within the sphere of resolution: where, and in radians a voxel, shape (3, n)."""
    m = cube.m
    inside = np.asarray(cube.half_radius <= m / 2)
    line = np.fft.fftfreq(m) * m
    grid = np.stack(np.meshgrid(line, line, np.arange(m // 2 + 1), indexing="ij"))[:, inside]
    return inside, np.asarray(grid * (2 * np.pi / m))
