"""The likelihood that stages 1 and 2 minimize: normal errors whose variance follows the model.

``f = 1/2 sum [ln(2 pi V) + (D - M)^2 / V]`` with V = M + sigma_r^2 (Mendez et al. 2020, IUCrJ 7, 1151, eq. 9): D the
photons measured, M those expected, sigma_r the read-out noise in photons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray

FLOOR_PHOTONS = 1e-3
"""Smallest expectation: a background plane may dip below zero."""


@dataclass(frozen=True, eq=False)
class PixelLikelihood:
    """Value, and by pixel: derivative by the model, Fisher information on it, and Z = (D - M)/sqrt(V)."""

    value: float
    slope: FloatArray
    fisher: FloatArray
    z: FloatArray

    def sigma_z(self) -> float:
        """Standard deviation of Z: 1 where model and noise are right."""
        return float(np.std(self.z)) if len(self.z) else float("nan")


def pixel_likelihood(data: FloatArray, model: FloatArray, read_noise: float) -> PixelLikelihood:
    """Evaluate the likelihood.

    Parameters
    ----------
    data, model
        Photons measured and expected, of any one shape.
    read_noise
        Standard deviation of the read-out noise, photons.

    Notes
    -----
    The Fisher information of a normal variable with mean M and variance M + sigma_r^2 is 1/V + 1/(2 V^2).
    """
    expected = np.maximum(model, FLOOR_PHOTONS)
    variance = expected + read_noise**2
    residual = data - expected
    ratio = residual / variance
    value = 0.5 * float(np.sum(np.log(2 * np.pi * variance) + residual * ratio))
    slope = 0.5 * (1 / variance - 2 * ratio - ratio**2)
    slope[model < FLOOR_PHOTONS] = 0
    return PixelLikelihood(value, slope, 1 / variance + 0.5 / variance**2, residual / np.sqrt(variance))
