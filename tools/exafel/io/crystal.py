"""Crystal models: orientation, unit cell, symmetry, mosaicity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import ConfigError

CellParameters = tuple[float, float, float, float, float, float]


def space_group(name: str) -> gemmi.SpaceGroup:
    """Find a space group by Hermann-Mauguin symbol, with or without blanks, or Hall symbol.

    Raises
    ------
    ConfigError
        No such space group.
    """
    found = gemmi.find_spacegroup_by_name(name)
    if found is None:
        operations = _hall_operations(name)
        found = None if operations is None else gemmi.find_spacegroup_by_ops(operations)
    if found is None:
        raise ConfigError(f"unknown space group '{name}'", hint="write it as P43212, P6122 or P 1 21 1")
    return found


def space_group_of_hall(hall: str) -> gemmi.SpaceGroup:
    """Find a space group by Hall symbol alone, as files of DIALS name it.

    Seven symbols mean different groups by Hall and by Hermann and Mauguin: "P 4 2" is P 4 2 2 here and P 42 there.

    Raises
    ------
    ConfigError
        No such space group.
    """
    operations = _hall_operations(hall)
    found = None if operations is None else gemmi.find_spacegroup_by_ops(operations)
    if found is None:
        raise ConfigError(f"unknown Hall symbol '{hall}'")
    return found


def _hall_operations(name: str) -> gemmi.GroupOps | None:
    try:
        return gemmi.symops_from_hall(name)
    except (RuntimeError, ValueError):
        return None


def orthogonalization(cell: Sequence[float]) -> FloatArray:
    """Matrix whose columns are a, b, c with a along x and b in the xy plane (the PDB convention), shape (3, 3)."""
    return np.array(gemmi.UnitCell(*cell).orth.mat.tolist())


def cell_from_basis(basis: FloatArray) -> CellParameters:
    """Cell parameters (angstrom, deg) of a basis whose rows are a, b, c, shape (3, 3)."""
    rows = basis.tolist()  # of nine numbers, Python's own arithmetic is five times faster than numpy's
    a, b, c = (math.sqrt(_dot(row, row)) for row in rows)
    alpha = _angle_deg(_dot(rows[1], rows[2]) / (b * c))
    beta = _angle_deg(_dot(rows[0], rows[2]) / (a * c))
    gamma = _angle_deg(_dot(rows[0], rows[1]) / (a * b))
    return a, b, c, alpha, beta, gamma


def _dot(u: Sequence[float], v: Sequence[float]) -> float:
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def _angle_deg(cosine: float) -> float:
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


@dataclass(frozen=True, eq=False)
class Crystal:
    """One lattice of one shot.

    Parameters
    ----------
    real_space
        Real-space basis in the laboratory frame, rows a, b, c, angstrom, shape (3, 3).
    space_group_hall
        Hall symbol, as DIALS files store it.
    half_mosaicity_deg, domain_size_angstrom
        Mosaicity of the model of Sauter et al. (2014): half of the angular spread, and the domain size D by which
        a reflection's half width in angle is half mosaicity + d / D, as DIALS writes it. None where not determined.
    """

    real_space: FloatArray
    space_group_hall: str
    half_mosaicity_deg: float | None = None
    domain_size_angstrom: float | None = None

    @cached_property
    def cell(self) -> CellParameters:
        """Unit cell parameters (angstrom, deg)."""
        return cell_from_basis(self.real_space)

    @cached_property
    def A(self) -> FloatArray:
        """Setting matrix: its columns are a*, b*, c* in the laboratory frame, 1/angstrom; r = A h, shape (3, 3)."""
        return np.asarray(np.linalg.inv(self.real_space))

    @cached_property
    def B(self) -> FloatArray:
        """Reciprocal basis of the unrotated cell: columns a*, b*, c* in the convention of the PDB, shape (3, 3)."""
        return np.asarray(np.linalg.inv(orthogonalization(self.cell)).T)

    @cached_property
    def U(self) -> FloatArray:
        """Rotation with A = U B, shape (3, 3)."""
        return np.asarray(self.A @ np.linalg.inv(self.B))

    @property
    def space_group(self) -> gemmi.SpaceGroup:
        """The space group."""
        return space_group_of_hall(self.space_group_hall)
