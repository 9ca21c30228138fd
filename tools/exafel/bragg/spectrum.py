"""Spectra of self-amplified spontaneous emission."""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray
from exafel.io.geometry import EV_ANGSTROM, Spectrum

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def energy_grid(mean_ev: float, fwhm_ev: float, n_channels: int) -> FloatArray:
    """Evenly spaced photon energies over three times the full width at half maximum, eV, shape (n_channels,)."""
    if n_channels == 1 or fwhm_ev == 0:
        return np.array([mean_ev])
    return np.linspace(mean_ev - 1.5 * fwhm_ev, mean_ev + 1.5 * fwhm_ev, n_channels)


def sase_spectrum(
    rng: np.random.Generator, energies_ev: FloatArray, centre_ev: float, fwhm_ev: float, spike_fwhm_ev: float
) -> Spectrum:
    """One pulse's spectrum: random spikes under a Gaussian envelope.

    The field of a pulse is shot noise, filtered by the gain curve in energy and cut by the pulse in time (the partial
    coherence model of Pfeifer et al. 2010, Opt. Lett. 35, 3441). Its statistics are those of chaotic light in the linear
    regime (Saldin, Schneidmiller & Yurkov 1998, Opt. Commun. 148, 383): a channel's intensity has a negative exponential
    distribution, and neighbours within a spike's width are alike.

    Parameters
    ----------
    rng
        Source of randomness.
    energies_ev
        Evenly spaced channels, shape (n,).
    centre_ev, fwhm_ev
        Centre and full width at half maximum of the mean spectrum.
    spike_fwhm_ev
        Full width at half maximum of a spike: the shorter the pulse, the wider.

    Returns
    -------
    Spectrum
        Weights sum to one.
    """
    if len(energies_ev) == 1:
        return Spectrum(np.array([EV_ANGSTROM / centre_ev]), np.ones(1))
    step = float(energies_ev[1] - energies_ev[0])
    # The correlation of the intensity is the square of the field's, so the field's kernel is as wide as the spike.
    sigma = spike_fwhm_ev / _FWHM_PER_SIGMA / step
    reach = max(1, int(np.ceil(4 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    noise = rng.standard_normal((2, len(energies_ev) + 2 * reach))
    field = np.convolve(noise[0], kernel, "valid") + 1j * np.convolve(noise[1], kernel, "valid")
    envelope = np.exp(-0.5 * ((energies_ev - centre_ev) / (fwhm_ev / _FWHM_PER_SIGMA)) ** 2)
    weights = np.abs(field) ** 2 * envelope
    return Spectrum(EV_ANGSTROM / energies_ev, weights / weights.sum())
