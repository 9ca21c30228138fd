"""Parameters of a setting matrix: a rotation, and strains that the symmetry allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray
from exafel.stills.cell_symmetry import reciprocal_basis, reciprocal_metric, rotation_of

_GENERATORS = np.array(
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]],
    dtype=np.float64,
)


@dataclass(frozen=True, eq=False)
class CellRestraint:
    """Weak knowledge of the cell: strain relative to `metric` is normal with standard deviation `sigma`."""

    metric: FloatArray
    sigma: float


def move_setting(A: FloatArray, metrics: FloatArray, step: FloatArray) -> FloatArray:
    """Apply a step in the parameters to a setting matrix, exactly within the symmetry.

    Parameters
    ----------
    A
        Setting matrix, shape (3, 3).
    metrics
        Free reciprocal metrics from `invariant_metrics`, shape (n_free, 3, 3).
    step
        Rotation vector in the laboratory frame (rad), then strains along the free metrics, shape (3 + n_free,).
        A strain of 1 along metric E adds E over the norm of A^-T E A^-1 / 2 to G*.
    """
    strains, scales = _strains(A, metrics)
    metric = reciprocal_metric(A) + np.einsum("k,kij->ij", step[3:] / scales, metrics)
    deformed = (np.eye(3) + np.einsum("k,kij->ij", step[3:], strains)) @ A
    turn = _rotation(step[:3])
    return np.asarray(turn @ rotation_of(deformed) @ reciprocal_basis(metric))


def setting_derivatives(A: FloatArray, metrics: FloatArray) -> FloatArray:
    """Differentiate r = A h by the parameters of `move_setting`: dr/dp = D_p r, shape (3 + n, 3, 3).

    A change dG* of the reciprocal metric without rotation is the symmetric strain S = A^-T dG* A^-1 / 2 of
    reciprocal space, because A^T S A + A^T S^T A = dG*.
    """
    return np.concatenate([_GENERATORS, _strains(A, metrics)[0]])


def _strains(A: FloatArray, metrics: FloatArray) -> tuple[FloatArray, FloatArray]:
    inverse = np.linalg.inv(A)
    strains = 0.5 * inverse.T @ metrics @ inverse
    scales = np.sqrt((strains**2).sum(axis=(1, 2)))
    return strains / scales[:, None, None], scales


def _rotation(vector: FloatArray) -> FloatArray:
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.asarray(np.eye(3) + np.einsum("k,kij->ij", vector, _GENERATORS))
    K = np.einsum("k,kij->ij", vector / angle, _GENERATORS)
    return np.asarray(np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K)


def restraint_terms(
    A: FloatArray, metrics: FloatArray, restraint: CellRestraint
) -> tuple[float, FloatArray, FloatArray]:
    """Return the restraint's half squared deviation, its gradient and its curvature in the strains."""
    inverse = np.linalg.inv(A)
    strain = 0.5 * inverse.T @ (reciprocal_metric(A) - restraint.metric) @ inverse
    strains, _ = _strains(A, metrics)
    flat = strains.reshape(len(metrics), 9)
    scale = 1.0 / restraint.sigma**2
    # The reference strain is taken in the present frame; its own change with A is of second order in the strain.
    return 0.5 * scale * float((strain**2).sum()), scale * flat @ strain.ravel(), scale * flat @ flat.T
