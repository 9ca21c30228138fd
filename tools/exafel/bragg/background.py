"""Diffuse background of water, and the noise of photons and read-out."""

from __future__ import annotations

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.forward import pixel_factors
from exafel.bragg.scene import CLASSICAL_ELECTRON_RADIUS_SQUARED_M2
from exafel.io.geometry import Beam, Detector

WATER_MOLECULES_PER_M3 = 3.3328e28
"""Number density of water at 25 C: 997.05 kg/m^3 over 18.015 g/mol."""

_COMPRESSIBILITY_LIMIT = 0.063
"""S(0) = rho k T kappa_T of water at 25 C, with kappa_T = 4.52e-10 / Pa."""
_OH_ANGSTROM = 0.9572
_HH_ANGSTROM = 1.5139


def water_intensity(q: FloatArray) -> FloatArray:
    """Coherent scattering of water per molecule, electron units, like `q` = 4 pi sin(theta) / lambda in 1/angstrom.

    A molecule's own scattering (independent atoms at the gas-phase distances, Debye's formula) times a structure
    factor of the liquid that is a smooth curve of our own: its limit at q = 0 is the compressibility's, it rises about
    1.5 / angstrom, has the liquid's main maximum at 2 / angstrom and goes to one. It gives a background with the look
    of water's, to some ten per cent; it is no measurement.
    """
    oxygen, hydrogen = gemmi.Element("O").it92, gemmi.Element("H").it92
    stol2 = (q / (4 * np.pi)) ** 2
    f_o = np.vectorize(oxygen.calculate_sf, otypes=[float])(stol2)
    f_h = np.vectorize(hydrogen.calculate_sf, otypes=[float])(stol2)
    pairs = 4 * f_o * f_h * np.sinc(q * _OH_ANGSTROM / np.pi) + 2 * f_h**2 * np.sinc(q * _HH_ANGSTROM / np.pi)
    molecule = f_o**2 + 2 * f_h**2 + pairs
    rise = 1 / (1 + np.exp(-(q - 1.5) / 0.2))
    start = 1 / (1 + np.exp(1.5 / 0.2))
    liquid = _COMPRESSIBILITY_LIMIT + (1 - _COMPRESSIBILITY_LIMIT) * (rise - start) / (1 - start)
    maximum = 0.35 * np.exp(-0.5 * ((q - 2.0) / 0.3) ** 2)
    return np.asarray(molecule * (liquid + maximum))


def water_background(detector: Detector, beam: Beam, thickness_um: float) -> FloatArray:
    """Photons that water scatters into each pixel for one photon of the pulse, shape (n_pixels,).

    ``(molecules per area) * r_e^2 * Omega * P * I(q)``.
    """
    omega_p, cos_two_theta = pixel_factors(detector, beam)
    q = 4 * np.pi / beam.wavelength_angstrom * np.sqrt(np.clip(1 - cos_two_theta, 0, 2) / 2)
    q_table = np.linspace(0, 4 * np.pi / beam.wavelength_angstrom, 2048)
    molecules_per_m2 = thickness_um * 1e-6 * WATER_MOLECULES_PER_M3
    scattering = np.interp(q, q_table, water_intensity(q_table))
    return np.asarray(molecules_per_m2 * CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 * omega_p * scattering)


def detect(
    rng: np.random.Generator, photons: AnyArray, *, gain: float, read_noise_photons: float, saturation_photons: float
) -> AnyArray:
    """What a detector reads: Poisson photons, Gaussian read-out noise, gain, saturation; int32, like `photons`."""
    counts = rng.poisson(photons).astype(np.float64)
    if read_noise_photons > 0:
        counts += rng.normal(0, read_noise_photons, counts.shape)
    return np.rint(gain * np.minimum(counts, saturation_photons)).astype(np.int32)
