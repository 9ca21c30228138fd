"""Photons of boxes of pixels by reflection, for a shot whose model is known: what predict and stage 2 stand on."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from exafel.arrays import AnyArray, FloatArray, Int32Array
from exafel.bragg.forward import structure_factor_coefficients
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.shoeboxes import box_pixels
from exafel.bragg.shot_model import ShotParameters, ShotScene

_SPREAD_FLOOR = 1e-4
"""Parts of a point spread below this are left out of the coefficients."""


def parameters_of_row(row: dict[str, object], cell: tuple[float, ...]) -> ShotParameters:
    """Parameters of a row of stage 1's table.

    The refined orientation, cell and detector are in the experiment of the row, so turns and shift are zero here.
    """
    six, three, eta = np.asarray(cell), row["ncells"], row["eta_abc"]
    a, b, c, alpha, beta, gamma = (float(value) for value in six)
    n_a, n_b, n_c = (float(value) for value in np.asarray(three))
    eta_a, eta_b, eta_c = (float(value) for value in np.asarray(eta))
    return ShotParameters(
        cell=(a, b, c, alpha, beta, gamma),
        n_cells=(n_a, n_b, n_c),
        scale=float(np.asarray(row["spot_scales"])),
        eta_deg=(eta_a, eta_b, eta_c),
        b_factor=float(np.asarray(row["B_factor"])),
    )


def box_coefficients(
    scene: ShotScene, parameters: ShotParameters, reflections: ReflectionSet, corners: Int32Array, size: int
) -> sparse.csr_array:
    """Photons of the pixels of boxes for each unit of |F|^2, by reflection.

    Parameters
    ----------
    scene, parameters
        The shot; its structure factors are of `reflections`' table, their values do not matter.
    reflections
        What columns count.
    corners, size
        Boxes, as in `exafel.bragg.shoeboxes.Shoeboxes`.

    Returns
    -------
    scipy.sparse.csr_array
        Shape (n_boxes size^2, n_reflections), with sorted columns; the decay by B and the point spread are in it.
    """
    pixels = box_pixels(corners, size).reshape(-1, 3)
    table = structure_factor_coefficients(scene.arrays(parameters), pixels)
    coo = sparse.coo_array(table)
    row, value = coo.coords[0], coo.data
    column = reflections.position.ravel()[coo.coords[1]].astype(np.int64)
    kept = column >= 0
    row, column, value = row[kept], column[kept], value[kept]
    if parameters.b_factor != 0:
        value = value * np.exp(parameters.b_factor * scene.bragg_decay(pixels))[row]
    if scene.spread is not None:
        row, column, value = _spread(row, column, value, scene.spread)
    result = sparse.csr_array((value, (row, column)), shape=(len(pixels), len(reflections)))
    result.sum_duplicates()
    return result


def _spread(
    row: AnyArray, column: AnyArray, value: FloatArray, spread: FloatArray
) -> tuple[AnyArray, AnyArray, FloatArray]:
    """Spread the photons of each reflection over the box that they are in."""
    n = len(spread)
    pairs, which = np.unique(np.column_stack([row // n, column]), axis=0, return_inverse=True)
    boxes = np.zeros((len(pairs), n))
    np.add.at(boxes, (which.ravel(), row % n), value)
    boxes = boxes @ spread
    pair, pixel = np.nonzero(boxes > _SPREAD_FLOOR * boxes.max(axis=1, keepdims=True, initial=0))
    return pairs[pair, 0] * n + pixel, pairs[pair, 1], boxes[pair, pixel]
