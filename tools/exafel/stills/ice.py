"""Powder rings of ice."""

from __future__ import annotations

from functools import cache

import gemmi
import numpy as np

from exafel.arrays import FloatArray

ICE_CELL = (4.498, 4.498, 7.338, 90.0, 90.0, 120.0)
"""Hexagonal ice, P63/mmc; the cell that DIALS' ice-ring filter uses."""

_D_MIN_ANGSTROM = 1.0  # finer rings are weak, and so many that hardly a spot lies between them


@cache
def ice_rings_inverse_d2() -> FloatArray:
    """1/d^2 of the powder rings of hexagonal ice to 1.0 angstrom, shape (n,), ascending."""
    cell = gemmi.UnitCell(*ICE_CELL)
    indices = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 63/m m c"), _D_MIN_ANGSTROM)
    return np.unique(np.round(cell.calculate_1_d2_array(indices), 6))
