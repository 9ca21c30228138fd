"""Bases of a crystal's mosaic blocks from its orientation, cell and mosaic spread, with their derivatives."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from exafel import _kernels
from exafel.arrays import FloatArray
from exafel.bragg.scene import BASIS_VARIABLES
from exafel.io.crystal import CellParameters


def crystal_bases(
    orientation: FloatArray,
    cell: CellParameters | FloatArray,
    axes: FloatArray,
    *,
    turns_rad: FloatArray | tuple[float, float, float] = (0.0, 0.0, 0.0),
    spread_rad: FloatArray | tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[FloatArray, FloatArray]:
    """Real-space bases of mosaic blocks and their derivatives by `BASIS_VARIABLES`, from dual numbers.

    Block m has the columns ``a, b, c = R_x R_y R_z U R(spread * axes[m]) O(cell)``: turns about the laboratory's axes,
    the orientation, the block's own rotation vector in the crystal's frame (the mosaic spread, one value for all axes
    or one for each, times a draw of unit spread), and the PDB's orthogonalization matrix.

    Parameters
    ----------
    orientation
        U, shape (3, 3).
    cell
        Lengths (angstrom) and angles (degrees).
    axes
        Draws of unit spread, shape (m, 3): `mosaic_axes`, or zeros for a single block.
    turns_rad, spread_rad
        Angles, radians.

    Returns
    -------
    blocks, jacobian
        Rows a, b, c, angstrom, shape (m, 3, 3), and shape (m, 3, 3, 12).
    """
    draws = np.ascontiguousarray(axes, dtype=np.float64).reshape(-1, 3)
    blocks = np.empty((len(draws), 3, 3))
    jacobian = np.empty((len(draws), 3, 3, len(BASIS_VARIABLES)))
    _kernels.crystal_blocks(
        np.asarray(turns_rad, dtype=np.float64),
        np.ascontiguousarray(orientation, dtype=np.float64),
        np.asarray(cell, dtype=np.float64),
        np.asarray(spread_rad, dtype=np.float64),
        draws,
        blocks,
        jacobian,
    )
    return blocks, jacobian


def mosaic_axes(n_blocks: int) -> FloatArray:
    """Rotation vectors of unit rms about each axis that sample a mosaic crystal evenly, shape (n_blocks, 3).

    The same for every shot, so that a model is a smooth function of its spread: a lattice rule of low discrepancy
    (Roberts' R3 sequence, steps of the inverse powers of the root of x^4 = x + 1) under the inverse of the normal
    distribution, in opposite pairs, an odd one at zero; so their mean is zero. They are scaled to rms one along each
    axis.
    """
    pairs = n_blocks // 2
    root = 1.2207440846057596
    steps = np.array([1 / root, 1 / root**2, 1 / root**3])
    half = ndtri((0.5 + np.arange(1, pairs + 1)[:, None] * steps) % 1)
    axes = np.concatenate([half, -half, np.zeros((n_blocks % 2, 3))])
    rms = np.sqrt(np.mean(axes**2, axis=0))
    return np.asarray(axes / np.where(rms > 0, rms, 1))
