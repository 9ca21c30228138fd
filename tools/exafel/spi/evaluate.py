"""A reconstruction against the truth: orientations, classes, and densities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import scipy.fft

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.spi.alignment import align_intensities, orientation_errors, place_density
from exafel.spi.backend import cpu_backend
from exafel.spi.fsc import Curve, fsc
from exafel.spi.grids import Cube
from exafel.spi.particles import Particle
from exafel.spi.phasing import autocorrelation


def confusion(found: IntArray, true: IntArray) -> IntArray:
    """Images by true conformation (rows) and class (columns)."""
    table = np.zeros((int(true.max()) + 1, int(found.max()) + 1), dtype=np.int64)
    np.add.at(table, (true, found), 1)
    return table


def class_of_conformation(table: IntArray) -> tuple[int, ...]:
    """Which class is which conformation: the pairing with most images in it; -1 where there is no class left."""
    n_true, n_found = table.shape
    columns = [*range(n_found), *[-1] * max(0, n_true - n_found)]
    pairings = {tuple(item[:n_true]) for item in permutations(columns, min(n_true, len(columns)))}

    def together(pairing: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        return sum(int(table[row, column]) for row, column in enumerate(pairing) if column >= 0), pairing

    return max(pairings, key=together)


@dataclass(frozen=True, eq=False)
class DensityAgreement:
    """A map against its true density.

    Parameters
    ----------
    fsc
        By shell.
    correlation
        Of intensities when aligned.
    inverted
        Whether the hand had to be changed.
    """

    fsc: Curve
    correlation: float
    inverted: bool


def compare_density(
    density: AnyArray, particle: Particle, voxel_angstrom: float, d_align_angstrom: float
) -> DensityAgreement:
    """Fourier shell correlation with the density of atoms, after rotation, hand and shift have been found.

    Parameters
    ----------
    density
        Shape (m, m, m), origin in the middle.
    d_align_angstrom
        Resolution that the rotation is first found at; it is then refined to the map's.
    """
    backend = cpu_backend()
    cube = Cube(len(density), voxel_angstrom)
    true = particle.density(cube.m, voxel_angstrom).astype(np.float32)
    both = [autocorrelation(np.asarray(item, dtype=np.float32), cube, backend) for item in (true, density)]
    diameter = cube.box_angstrom / 2
    coarse = align_intensities(both[0], both[1], cube, diameter, backend, None, d_align_angstrom)
    fine = align_intensities(both[0], both[1], cube, diameter, backend, coarse.quaternion)
    turn = fine.quaternion if fine.correlation > 0.5 * coarse.correlation else coarse.quaternion
    transform = scipy.fft.rfftn(np.fft.ifftshift(true))
    placed = place_density(transform, density, turn, cube, backend)
    return DensityAgreement(fsc(transform, placed.transform, cube), coarse.correlation, placed.inverted)


def orientation_errors_by_class(
    found: FloatArray, true: FloatArray, classes: IntArray, symmetry: FloatArray
) -> FloatArray:
    """Errors in degrees of all images; every class has a frame of its own."""
    errors = np.full(len(found), np.nan)
    for kind in np.unique(classes):
        rows = np.flatnonzero(classes == kind)
        if len(rows) >= 3:
            errors[rows] = orientation_errors(found[rows], true[rows], symmetry)[0]
    return errors
