"""The wavelength that a reflection selects of a shot's spectrum.

A reciprocal-lattice point has the distance eps(k) = |k s0 + r| - k from the Ewald sphere of wave number k. With a
normal law of standard deviation sigma for the shape of the point, channel k of weight w contributes
w exp(-eps^2 / 2 sigma^2) to the spot, so the spot's position is that for the mean k under these contributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import BoolArray, FloatArray
from exafel.io.geometry import Beam
from exafel.stills.spot_errors import MEDIAN_CHI2
from exafel.stills.spot_vectors import SpotVectors

_MAX_CHANNELS = 40
_MIN_SPOTS = 20
_MIN_SHARE = 0.05  # smallest part of the variance of the distance that is left to the crystal


@dataclass(frozen=True, eq=False)
class WaveNumbers:
    """Channels of a spectrum: wave numbers relative to the mean's (1/angstrom) and weights that sum to 1."""

    offset: FloatArray
    weight: FloatArray

    @property
    def variance(self) -> float:
        """Variance of the wave number, 1/angstrom^2."""
        mean = float(self.weight @ self.offset)
        return float(self.weight @ self.offset**2) - mean**2


def wave_numbers(beam: Beam) -> WaveNumbers | None:
    """Spectrum of a beam around its mean wavelength; neighbouring channels joined to forty at most, None without."""
    spectrum = beam.spectrum
    if spectrum is None or len(spectrum.weights) < 2:
        return None
    weight = np.clip(spectrum.weights, 0.0, None)
    if weight.sum() <= 0:
        return None
    k = 1.0 / spectrum.wavelengths_angstrom
    order = np.argsort(k)
    k, weight = k[order], weight[order] / weight.sum()
    inside = (np.cumsum(weight) > 1e-4) & (np.cumsum(weight[::-1])[::-1] > 1e-4)
    edges = np.arange(0, np.count_nonzero(inside), -(-np.count_nonzero(inside) // _MAX_CHANNELS))
    k, weight = k[inside], weight[inside]
    joined = np.add.reduceat(weight, edges)
    centre = np.add.reduceat(weight * k, edges)[joined > 0] / joined[joined > 0]
    return WaveNumbers(centre - 1.0 / beam.wavelength_angstrom, joined[joined > 0] / joined.sum())


def gaussian_spectrum(sigma: float) -> WaveNumbers:
    """Channels of a normal law of wave numbers with standard deviation `sigma`, 1/angstrom."""
    t = np.linspace(-3.0, 3.0, 25)
    weight = np.exp(-0.5 * t**2)
    return WaveNumbers(sigma * t, weight / weight.sum())


def estimate_bandwidth(displacement: FloatArray, spots: SpotVectors, used: BoolArray) -> float:
    """Standard deviation of the wave number where no spectrum was recorded, from the spots of the shot.

    A reflection that is excited by the wave number k + dk has, relative to the mean k, the radial displacement
    dk sin(2 theta) and the distance dk 2 sin^2(theta) from the Ewald sphere. No other cause makes these two go
    together in this way, so their weighted covariance over the spots gives the variance of dk.

    Parameters
    ----------
    displacement
        r_calc - r_obs at the mean wavelength in the frames of the spots, shape (n, 3), 1/angstrom.
    spots
        The spots.
    used
        Which of them to use, shape (n,).

    Returns
    -------
    float
        Standard deviation, 1/angstrom; 0 where the covariance is below three standard errors.
    """
    if np.count_nonzero(used) < _MIN_SPOTS:
        return 0.0
    cosine = (spots.s1_unit @ spots.s0_unit)[used]
    shape = np.sqrt(1.0 - cosine**2) * (1.0 - cosine)
    radial, distance = displacement[used, 0], displacement[used, 2]
    variance = float(np.median(radial**2) * np.median(distance**2)) / MEDIAN_CHI2**2
    if variance <= 0:
        return 0.0
    limit = 9.0 * np.sqrt(variance)
    information = float((shape**2).sum())
    estimate = float(shape @ np.clip(radial * distance, -limit, limit)) / information
    return float(np.sqrt(estimate)) if estimate > 3.0 * np.sqrt(variance / information) else 0.0


def selected_wave_numbers(
    spectrum: WaveNumbers, distance: FloatArray, spots: SpotVectors, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean wave number of the channels that excite each reflection.

    Parameters
    ----------
    spectrum
        The shot's channels.
    distance
        Distance of each reflection from the Ewald sphere of the mean wavelength, shape (n,), 1/angstrom.
    spots
        The spots, for their directions.
    variance
        Variance of the distance, spectrum and crystal together, shape (n,), 1/angstrom^2.

    Returns
    -------
    wave_number
        Shape (n,), 1/angstrom.
    spread
        Variance of the distance over the contributing channels, shape (n,), 1/angstrom^2.
    """
    slope = spots.s1_unit @ spots.s0_unit - 1.0  # d eps / d k, -2 sin^2(theta)
    crystal = np.maximum(variance - slope**2 * spectrum.variance, _MIN_SHARE * variance)
    eps = distance[:, None] + slope[:, None] * spectrum.offset
    exponent = -0.5 * eps**2 / crystal[:, None]
    share = spectrum.weight * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    mean = share @ spectrum.offset
    second = share @ spectrum.offset**2
    return spots.wave_number + mean, slope**2 * np.maximum(second - mean**2, 0.0)
