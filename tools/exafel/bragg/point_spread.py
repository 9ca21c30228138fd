"""What a detector spreads of a pixel's photons over its neighbours, within boxes of pixels."""

from __future__ import annotations

import numpy as np
from scipy.special import erf

from exafel.arrays import FloatArray
from exafel.config.shot_model import PointSpreadConfig


def spread_matrix(size: int, config: PointSpreadConfig) -> FloatArray:
    """Part of the photons of pixel i of a box that arrives in pixel j, shape (size^2, size^2).

    ``gauss`` is a normal distribution, ``fiber`` the cone of light of a phosphor at a distance g from its fibre-optic
    taper, g / (2 pi (g^2 + r^2)^(3/2)), with long tails (Holton et al. 2012, J. Synchrotron Rad. 19, 1006). Both are
    integrated over the receiving pixel; the photons start from the centre of theirs.
    """
    offset = np.arange(-(size - 1.0), size)
    kernel = _kernel(offset, config)
    index = np.arange(size)
    shift = index[None, :] - index[:, None] + size - 1
    matrix = kernel[shift[:, None, :, None], shift[None, :, None, :]]
    return np.ascontiguousarray(matrix.reshape(size * size, size * size))


def _kernel(offset: FloatArray, config: PointSpreadConfig) -> FloatArray:
    edges = np.append(offset, offset[-1] + 1) - 0.5
    if config.shape == "gauss":
        sigma = config.fwhm_px / np.sqrt(8 * np.log(2))
        part = np.diff(0.5 * (1 + erf(edges / (np.sqrt(2) * sigma))))
        return np.outer(part, part)
    # half of its maximum where (1 + r^2/g^2)^(3/2) is two
    g = 0.5 * config.fwhm_px / np.sqrt(2 ** (2 / 3) - 1)
    y, x = edges[:, None], edges[None, :]
    corner = np.arctan(x * y / (g * np.sqrt(g**2 + x**2 + y**2))) / (2 * np.pi)
    return np.asarray(np.diff(np.diff(corner, axis=0), axis=1))
