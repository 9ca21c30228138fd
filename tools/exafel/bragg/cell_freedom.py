"""How the six parameters of a unit cell may change under the symmetry of its space group."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np

from exafel.arrays import FloatArray

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def free_cell_directions(cell: Sequence[float], group: gemmi.SpaceGroup) -> FloatArray:
    """Directions in (a, b, c, alpha, beta, gamma) along which the cell keeps the symmetry, shape (n_free, 6).

    A rotation R of the group takes the metric G of the real-space axes to R^T G R = G. The changes of the cell that
    keep this true to first order are the null space of a linear map. The basis returned is in reduced form: each
    direction has a parameter of its own whose change is one (angstrom or degree).

    Parameters
    ----------
    cell
        Lengths (angstrom) and angles (degrees) that obey the symmetry.
    group
        The space group.
    """
    slopes = _metric_slopes(np.asarray(cell, dtype=np.float64))
    rotations = [np.array(op.rot, dtype=np.float64) / gemmi.Op.DEN for op in group.operations().sym_ops]
    rows = []
    for rotation in rotations:
        moved = np.einsum("ji,pjk,kl->pil", rotation, slopes, rotation) - slopes
        rows.append(np.array([moved[:, i, j] for i, j in _PAIRS]))
    _, singular, right = np.linalg.svd(np.concatenate(rows))
    free = right[np.append(singular, np.zeros(6 - len(singular))) < 1e-6 * slopes.max()]
    return _reduced(free)


def _metric_slopes(cell: FloatArray) -> FloatArray:
    """Derivatives of the real-space metric tensor by the cell parameters, shape (6, 3, 3)."""
    lengths, cosines, sines = cell[:3], np.cos(np.radians(cell[3:])), np.sin(np.radians(cell[3:]))
    slopes = np.zeros((6, 3, 3))
    for axis in range(3):
        slopes[axis, axis, axis] = 2 * lengths[axis]
    for angle, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        for length, other in ((i, j), (j, i)):
            slopes[length, i, j] = slopes[length, j, i] = lengths[other] * cosines[angle]
        slope = -lengths[i] * lengths[j] * sines[angle] * np.pi / 180
        slopes[3 + angle, i, j] = slopes[3 + angle, j, i] = slope
    return slopes


def _reduced(rows: FloatArray) -> FloatArray:
    """Reduced row echelon form."""
    rows = rows.copy()
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        pivot = done + int(np.argmax(np.abs(rows[done:, column])))
        if abs(rows[pivot, column]) < 1e-9:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column]
        for other in range(len(rows)):
            if other != done:
                rows[other] -= rows[other, column] * rows[done]
        done += 1
    rows[np.abs(rows) < 1e-12] = 0
    return rows
