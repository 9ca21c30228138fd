"""What a point group leaves free of a unit cell: the invariant part of the metric tensor."""

from __future__ import annotations

from functools import lru_cache

import gemmi
import numpy as np

from exafel.arrays import BoolArray, FloatArray
from exafel.io.crystal import orthogonalization, space_group_of_hall

_SYMMETRIC = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


@lru_cache(maxsize=64)
def invariant_metrics(hall: str) -> FloatArray:
    """Orthonormal basis of the reciprocal metric tensors that a space group's operations leave unchanged.

    An operation with rotation R takes a row of indices to h R, so the reciprocal metric of every crystal of the group
    obeys R G* R^T = G*. The average over the group is a projector on the space of such tensors; its eigenvectors of
    eigenvalue 1 are the free parameters of the cell: 6 for triclinic, 4 monoclinic, 3, 2, 2 and 1 for cubic.

    Parameters
    ----------
    hall
        Hall symbol of the space group.

    Returns
    -------
    ndarray
        Symmetric matrices, orthonormal under the sum of products of elements, shape (n_free, 3, 3).
    """
    rotations = [
        np.array(operation.rot, dtype=np.float64) / gemmi.Op.DEN
        for operation in space_group_of_hall(hall).operations().sym_ops
    ]
    units = np.zeros((6, 3, 3))
    for unit, (i, j) in zip(units, _SYMMETRIC, strict=True):
        unit[i, j] = unit[j, i] = 1.0 if i == j else np.sqrt(0.5)
    averaged = np.mean([rotation @ units @ rotation.T for rotation in rotations], axis=0)
    projector = np.einsum("aij,bij->ab", units, averaged)
    # Without an orthogonal basis the average is a projector but not a symmetric one: its range is what is wanted.
    left, singular, _ = np.linalg.svd(projector)
    free = left[:, singular > 1e-9]
    basis = np.asarray(np.einsum("ak,aij->kij", free, units))
    basis.setflags(write=False)
    return basis


@lru_cache(maxsize=64)
def centring_vectors(hall: str) -> FloatArray:
    """Lattice translations of a centred cell besides whole cells, fractions of the axes, shape (n, 3)."""
    operations = space_group_of_hall(hall).operations()
    vectors = np.array(operations.cen_ops, dtype=np.float64).reshape(-1, 3) / gemmi.Op.DEN
    return np.asarray(vectors[vectors.any(axis=1)])


def lattice_points(hkl: FloatArray, hall: str) -> BoolArray:
    """Tell which integer indices (..., 3) are points of the reciprocal lattice, those that centring leaves."""
    phase = hkl @ centring_vectors(hall).T
    return np.asarray((np.abs(phase - np.rint(phase)) < 0.01).all(axis=-1))


def reciprocal_metric(A: FloatArray) -> FloatArray:
    """Reciprocal metric tensor G* = A^T A, shape (3, 3), 1/angstrom^2."""
    return np.asarray(A.T @ A)


def constrain_setting(A: FloatArray, hall: str) -> FloatArray:
    """Nearest setting matrix with a cell that obeys the symmetry, the orientation kept, shape (3, 3)."""
    return rotation_of(A) @ reciprocal_basis(symmetrized(reciprocal_metric(A), hall))


def symmetrized(metric: FloatArray, hall: str) -> FloatArray:
    """Average of a reciprocal metric tensor over the operations of the group, shape (3, 3)."""
    total = np.zeros((3, 3))
    operations = space_group_of_hall(hall).operations().sym_ops
    for operation in operations:
        rotation = np.array(operation.rot, dtype=np.float64) / gemmi.Op.DEN
        total += rotation @ metric @ rotation.T
    return total / len(operations)


def reciprocal_basis(metric: FloatArray) -> FloatArray:
    """Matrix with columns a*, b*, c* of a reciprocal metric: the symmetric square root, free of a choice of axes."""
    values, vectors = np.linalg.eigh(metric)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def rotation_of(A: FloatArray) -> FloatArray:
    """Orthogonal factor of A = R sqrt(G*) (polar decomposition), shape (3, 3)."""
    left, _, right = np.linalg.svd(A)
    return np.asarray(left @ right)


def reference_setting(cell: tuple[float, ...], hall: str) -> FloatArray:
    """Return the setting matrix of the unrotated cell (PDB convention), in symmetry, shape (3, 3), 1/angstrom."""
    return constrain_setting(np.asarray(np.linalg.inv(orthogonalization(cell)).T), hall)
