"""Factors on the model's intensity of each spot: a shot is refined with amplitudes that are not yet right.

Stage 1 takes |F|^2 from merged data. With factors 1 + t, t of a normal distribution about zero, a spot whose |F|^2 is
wrong tells where it lies and how wide it is, but its intensity pulls on orientation and block size only as much as the
amplitudes can be trusted. The factors are found within each evaluation of the likelihood (variable projection; Golub &
Pereyra 2003, Inverse Problems 19, R1).
"""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.bragg.levenberg import Evaluation
from exafel.bragg.likelihood import FLOOR_PHOTONS, pixel_likelihood
from exafel.bragg.shoeboxes import Planes, Shoeboxes

_LEAST = -0.99
_CLEAR = 0.1
"""Standard error of a factor that tells something about the amplitudes."""
_ENOUGH = 8
_CLOSE = 1e-3
"""Factors are found where none moves by more than this part of its standard error."""


def own_scales(boxes: Shoeboxes, planes: Planes, model: FloatArray, read_noise: float) -> tuple[FloatArray, FloatArray]:
    """Factors on each box's model that fit its pixels best, and their standard errors, each of shape (n,).

    Weighted least squares, with the variance of the model times its factor.
    """
    background = np.maximum(planes.values(boxes.size), 0.0) + read_noise**2 + FLOOR_PHOTONS
    net = np.where(boxes.good, boxes.data - planes.values(boxes.size), 0.0)
    shape = np.where(boxes.good, model, 0.0)
    scale, modelled = np.ones(len(model)), np.ones(len(model))
    for _ in range(3):
        weighted = shape / (background + scale[:, None, None] * model)
        modelled = np.maximum(np.sum(weighted * shape, axis=(1, 2)), 1e-12)
        scale = np.maximum(np.sum(weighted * net, axis=(1, 2)) / modelled, 0.0)
    return scale, modelled**-0.5


def intensity_error(scale: FloatArray, error: FloatArray) -> float:
    """Relative standard deviation of |F|^2, from the factors of spots strong enough to tell; 0 where too few are.

    The median absolute deviation, so that spots of other lattices do not count, less what counting photons gives.
    """
    clear = error < _CLEAR
    if np.count_nonzero(clear) < _ENOUGH:
        return 0.0
    deviation = 1.4826 * float(np.median(np.abs(scale[clear] - 1)))
    return float(np.sqrt(max(deviation**2 - float(np.median(error[clear])) ** 2, 0.0)))


class SpotScales:
    """The factors of one shot's spots.

    Parameters
    ----------
    spot, n
        Which spot each pixel belongs to, shape (n_pixels,), and how many there are.
    sigma
        Standard deviation of the factors; 0: they are all 1.
    """

    def __init__(self, spot: IntArray, n: int, sigma: float) -> None:
        self.spot, self.n, self.sigma = spot, n, sigma
        self._weight = sigma**-2 if sigma > 0 else 0.0
        self._t = np.zeros(n)  # those found last: where the next search starts

    def evaluate(
        self, data: FloatArray, background: FloatArray, photons: FloatArray, slopes: FloatArray, read_noise: float
    ) -> Evaluation:
        """Likelihood at the best factors, its gradient by the parameters, and the Hessian with the factors free.

        Parameters
        ----------
        data, background, photons
            Of the pixels, shape (n_pixels,).
        slopes
            Derivatives of `photons` by the parameters, shape (n, n_pixels).
        read_noise
            Photons.
        """
        factor = self.factors(data, background, photons, read_noise)
        found = pixel_likelihood(data, background + factor * photons, read_noise)
        scaled = slopes * factor
        weighted = scaled * found.fisher
        hessian = weighted @ scaled.T
        if not self._weight:
            return Evaluation(found.value, scaled @ found.slope, hessian)
        cross = np.array([np.bincount(self.spot, row, self.n) for row in weighted * photons]).reshape(-1, self.n)
        own = np.bincount(self.spot, found.fisher * photons**2, self.n) + self._weight
        value = found.value + 0.5 * self._weight * float(self._t @ self._t)
        return Evaluation(value, scaled @ found.slope, hessian - (cross / own) @ cross.T)

    def factors(self, data: FloatArray, background: FloatArray, photons: FloatArray, read_noise: float) -> FloatArray:
        """Find the most likely factors, by Fisher scoring; of each pixel, shape (n_pixels,)."""
        if not self._weight:
            return np.ones(len(data))
        squares = photons**2
        for _ in range(12):
            model = background + (1 + self._t[self.spot]) * photons
            variance = np.maximum(model, FLOOR_PHOTONS) + read_noise**2
            inverse = 1 / variance
            ratio = (data - model) * inverse
            slope = np.bincount(self.spot, (0.5 * inverse - ratio - 0.5 * ratio**2) * photons, self.n)
            curvature = np.bincount(self.spot, (inverse + 0.5 * inverse**2) * squares, self.n)
            step = (slope + self._weight * self._t) / (curvature + self._weight)
            before, self._t = self._t, np.maximum(self._t - step, _LEAST)
            if np.max(np.abs(self._t - before) * np.sqrt(curvature + self._weight), initial=0.0) < _CLOSE:
                break
        return 1 + self._t[self.spot]
