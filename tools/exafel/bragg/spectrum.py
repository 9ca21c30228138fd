"""Spectra of self-amplified spontaneous emission."""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray
from exafel.config.simulate import PulseConfig
from exafel.io.geometry import EV_ANGSTROM, Spectrum

JITTER_LIMIT = 3.0
"""Jitter of a pulse's energy is cut at this many times its rms."""

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def energy_grid(mean_ev: float, fwhm_ev: float, jitter_ev: float, n_channels: int) -> FloatArray:
    """Evenly spaced photon energies that hold the spectrum of every pulse, eV, shape (n_channels,).

    They reach three half widths of the spectrum beyond `JITTER_LIMIT` times the rms jitter of its centre. Without a
    bandwidth there is one channel.
    """
    if n_channels == 1 or fwhm_ev < 1e-6 * mean_ev:
        return np.array([mean_ev])
    reach = 1.5 * fwhm_ev + JITTER_LIMIT * jitter_ev
    return np.linspace(mean_ev - reach, mean_ev + reach, n_channels)


def pulse_energies(config: PulseConfig) -> FloatArray:
    """Photon energies of the channels that all pulses of a simulation share, eV, shape (n,)."""
    energy = config.photon_energy_ev
    fwhm, jitter = (energy * percent / 100 for percent in (config.bandwidth_percent, config.energy_jitter_percent))
    return energy_grid(energy, fwhm, jitter, config.channels)


def sase_spectrum(
    rng: np.random.Generator, energies_ev: FloatArray, centre_ev: float, fwhm_ev: float, spike_fwhm_ev: float
) -> Spectrum:
    """One pulse's spectrum: random spikes under a Gaussian envelope.

    The field of a pulse is shot noise, filtered by the gain curve in energy and cut by the pulse in time (the partial
    coherence model of Pfeifer et al. 2010, Opt. Lett. 35, 3441). Its statistics are those of chaotic light in the
    linear regime (Saldin, Schneidmiller & Yurkov 1998, Opt. Commun. 148, 383): a channel's intensity has a negative
    exponential distribution, and neighbours within a spike's width are alike.

    Parameters
    ----------
    rng
        Source of randomness.
    energies_ev
        Evenly spaced channels, shape (n,).
    centre_ev, fwhm_ev
        Centre and full width at half maximum of the mean spectrum.
    spike_fwhm_ev
        Full width at half maximum of the intensity's correlation, a spike's width: wider for shorter pulses.

    Returns
    -------
    Spectrum
        Weights sum to one.
    """
    if len(energies_ev) == 1:
        return Spectrum(np.array([EV_ANGSTROM / centre_ev]), np.ones(1))
    step = float(energies_ev[1] - energies_ev[0])
    # The intensity's correlation is the square of the field's, which is sqrt(2) wider than the kernel: as wide as it.
    sigma = spike_fwhm_ev / _FWHM_PER_SIGMA / step
    reach = max(1, int(np.ceil(4 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-3)) ** 2)
    noise = rng.standard_normal((2, len(energies_ev) + 2 * reach))
    field = np.convolve(noise[0], kernel, "valid") + 1j * np.convolve(noise[1], kernel, "valid")
    width = max(fwhm_ev / _FWHM_PER_SIGMA, step / 2)  # a spectrum between two channels still has to show in them
    envelope = np.exp(-0.5 * ((energies_ev - centre_ev) / width) ** 2)
    weights = np.abs(field) ** 2 * envelope
    return Spectrum(EV_ANGSTROM / energies_ev, weights / weights.sum())
