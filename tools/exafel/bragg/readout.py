"""From expected photons to what a detector reads: point spread, photon noise, read-out noise, gain, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import oaconvolve
from scipy.special import ndtr

from exafel.arrays import FloatArray
from exafel.config.simulate import PsfConfig, ReadoutConfig

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
_FWHM_PER_FIBER_WIDTH = 2 * np.sqrt(2 ** (2 / 3) - 1)


def psf_kernel(psf: PsfConfig, pixel_size_mm: tuple[float, float]) -> FloatArray:
    """Part of a pixel's photons that its neighbours see, integrated over their areas, shape (slow, fast), odd.

    A Gaussian, or the transfer function of a fibre-optic taper, ``g / (2 pi (g^2 + r^2)^(3/2))`` (Holton, Nielsen &
    Frankel 2012, J. Synchrotron Rad. 19, 1006), whose integral over a rectangle has a closed form. It is scaled to a
    sum of one, so that what goes beyond its reach stays within it.
    """
    edges = [(np.arange(2 * psf.reach_px + 2) - psf.reach_px - 0.5) * size for size in pixel_size_mm]
    if psf.type == "gaussian":
        fast, slow = (np.diff(ndtr(edge * _FWHM_PER_SIGMA / psf.fwhm_mm)) for edge in edges)
        kernel = np.outer(slow, fast)
    else:
        g = psf.fwhm_mm / _FWHM_PER_FIBER_WIDTH
        x, y = edges[0][None, :], edges[1][:, None]
        corner = np.arctan(x * y / (g * np.sqrt(g**2 + x**2 + y**2))) / (2 * np.pi)
        kernel = np.diff(np.diff(corner, axis=0), axis=1)
    return np.asarray(kernel / kernel.sum())


def spread(photons: FloatArray, kernel: FloatArray) -> FloatArray:
    """Convolve one panel's expected photons, shape (slow, fast); what leaves the panel is lost."""
    return np.asarray(oaconvolve(photons, kernel, mode="same").clip(0.0, None))


def detect(rng: Any, photons: Any, readout: ReadoutConfig) -> Any:
    """What a detector reads of expected photons: Poisson, Gaussian read-out noise, gain, saturation; int32.

    Parameters
    ----------
    rng
        Generator of NumPy, or of CuPy for arrays on a GPU.
    photons
        Expected photons, any shape.
    readout
        The detector.
    """
    counts = rng.poisson(photons).astype(np.float64)
    if readout.read_noise_photons > 0:
        counts += readout.read_noise_photons * rng.standard_normal(counts.shape)
    counts = counts.clip(None, readout.saturation_photons)
    counts *= readout.gain
    return counts.round().astype(np.int32)
