"""Angle between two orientations of one crystal, modulo its symmetry."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import gemmi
import numpy as np

from exafel.arrays import FloatArray
from exafel.io.crystal import cell_from_basis, space_group_of_hall

Equivalence = Literal["none", "laue", "lattice"]


@lru_cache(maxsize=64)
def laue_rotations(hall: str) -> FloatArray:
    """Return `rotation_operations` of the Laue group of a space group given by its Hall symbol, shape (n, 3, 3)."""
    operations = rotation_operations(space_group_of_hall(hall))
    operations.setflags(write=False)
    return operations


def rotation_operations(
    group: gemmi.SpaceGroup, cell: tuple[float, ...] | None = None, *, max_obliquity_deg: float = 1.0
) -> FloatArray:
    """Proper rotations by which a lattice can be re-indexed, acting on columns of Miller indices, shape (n, 3, 3).

    Without a cell those of the space group's Laue group; with one, those of its lattice's metric symmetry (to
    `max_obliquity_deg`), which adds the alternatives among which indexing cannot tell.
    """
    operations = group.operations()
    if cell is not None:
        centring = group.centring_type()
        operations = gemmi.find_lattice_symmetry(gemmi.UnitCell(*cell), centring, max_obliquity_deg)
    found: list[FloatArray] = []
    for operation in operations.sym_ops:
        rotation = np.array(operation.rot, dtype=np.float64) / gemmi.Op.DEN
        rotation *= np.sign(np.linalg.det(rotation))  # with inversion added every improper one has its proper mate
        if not any(np.allclose(rotation, other) for other in found):
            found.append(rotation)
    return np.stack(found).transpose(0, 2, 1)  # h' = h R for a row of indices


def misorientation_deg(
    A_first: FloatArray, A_second: FloatArray, group: gemmi.SpaceGroup, *, equivalence: Equivalence = "laue"
) -> float:
    """Return the smallest rotation angle that takes one setting matrix to the other, over equivalent indexings.

    The rotation is the orthogonal factor of the polar decomposition of ``A_second (A_first M)^-1``, so the two
    cells may differ a little; `M` runs over the equivalent indexings.

    Parameters
    ----------
    A_first, A_second
        Setting matrices with columns a*, b*, c* in the laboratory frame, shape (3, 3), 1/angstrom.
    group
        Space group of both.
    equivalence
        ``laue``: rotations of the Laue group; ``lattice``: also those of the lattice alone (indexing ambiguities);
        ``none``: the indexing as given.

    Returns
    -------
    float
        Angle, deg.
    """
    if equivalence == "none":
        choices = np.eye(3)[None]
    else:
        cell = cell_from_basis(np.asarray(np.linalg.inv(A_first))) if equivalence == "lattice" else None
        choices = laue_rotations(group.hall) if cell is None else rotation_operations(group, cell)
    transforms = np.asarray(A_second) @ np.linalg.inv(np.asarray(A_first) @ choices)
    left, _, right = np.linalg.svd(transforms)
    rotations = left @ right
    proper = np.linalg.det(rotations) > 0
    if not proper.any():
        raise ValueError("the setting matrices have opposite hands")
    return float(np.degrees(min(rotation_angle(rotation) for rotation in rotations[proper])))


def rotation_angle(rotation: FloatArray) -> float:
    """Angle of a rotation matrix, rad; accurate also for tiny angles, where the trace alone is not."""
    axis = rotation[[2, 0, 1], [1, 2, 0]] - rotation[[1, 2, 0], [2, 0, 1]]
    return float(np.arctan2(np.linalg.norm(axis), np.trace(rotation) - 1.0))
