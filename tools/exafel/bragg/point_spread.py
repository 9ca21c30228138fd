"""What a detector spreads of a pixel's photons over its neighbours, within boxes of pixels."""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray
from exafel.bragg.readout import psf_kernel
from exafel.config.simulate import PsfConfig


def spread_matrix(size: int, psf: PsfConfig, pixel_size_mm: tuple[float, float]) -> FloatArray:
    """Part of the photons of pixel i of a box that is seen in pixel j, shape (size^2, size^2).

    Rows of less than one are of pixels near the edge of the box: their photons leave it.
    """
    kernel = psf_kernel(psf, pixel_size_mm)
    index = np.arange(size)
    shift = index[None, :] - index[:, None]
    near = np.abs(shift) <= psf.reach_px
    place = np.where(near, shift + psf.reach_px, 0)
    matrix = kernel[place[:, None, :, None], place[None, :, None, :]]
    matrix = np.where(near[:, None, :, None] & near[None, :, None, :], matrix, 0.0)
    return np.ascontiguousarray(matrix.reshape(size * size, size * size))
