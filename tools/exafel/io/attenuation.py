"""Absorption of X-rays in sensor materials: what the parallax correction needs."""

from __future__ import annotations

import numpy as np

from exafel.errors import InputError
from exafel.io.geometry import EV_ANGSTROM

_DENSITY_G_PER_CM3 = {"Si": 2.33, "CdTe": 6.2, "GaAs": 5.32}

# Mass attenuation coefficients (keV, cm^2/g) of J. H. Hubbell and S. M. Seltzer, NIST Standard Reference
# Database 126; an absorption edge is a pair of equal energies, below and above it.
_MU_OVER_RHO = {
    "Si": """
        1 1570  1.5 535.5  1.8389 309.2  1.8389 3192  2 2777  3 978.4  4 452.9  5 245  6 147  8 64.68  10 33.89
        15 10.34  20 4.464  30 1.436  40 0.7012  50 0.4385  60 0.3207  80 0.2228  100 0.1835  150 0.1448""",
    "CdTe": """
        1 7927  1.003 7875  1.006 7824  1.006 8014  1.5 3291  2 1664  3 614.6  3.537 406.4  3.537 778.7  3.631 730
        3.727 684  3.727 860.1  4 723  4.018 715.1  4.018 793.4  4.177 722.1  4.341 656.2  4.341 932.8  4.475 873.9
        4.612 813.5  4.612 943.8  4.773 870.2  4.939 799.9  4.939 865.3  5 839.2  6 528.6  8 249.2  10 138.1
        15 46.57  20 21.44  26.711 9.834  26.711 29.43  30 21.82  31.814 18.73  31.814 34.92  40 19.3  50 10.67
        60 6.542  80 3.019  100 1.671  150 0.6071""",
    "GaAs": """
        1 1917  1.05613 1685  1.1154 1481  1.1154 2772  1.12877 3180  1.1423 3532  1.1423 4372  1.21752 4130
        1.2977 3657  1.2977 4066  1.31034 3971  1.3231 3879  1.3231 5652  1.34073 5525  1.3586 5415  1.3586 6266
        1.5 5159  1.5265 4939  1.5265 5278  2 2731  3 970.2  4 453.9  5 249.5  6 152.4  8 69.6  10 37.8
        10.3671 34.25  10.3671 126  11.0916 105.9  11.8667 88.99  11.8667 168.5  15 92.2  20 42.58  30 13.97
        40 6.262  50 3.365  60 2.042  80 0.9587  100 0.5598  150 0.2509""",
}

_SYNONYMS = {"silicon": "Si", "sillicon": "Si"} | {name.lower(): name for name in _DENSITY_G_PER_CM3}


def sensor_material(name: str) -> str:
    """Return the formula of a sensor material that files spell in several ways; an unknown one as it is."""
    text = name.strip()
    return _SYNONYMS.get(text.lower(), text)


def mu_per_mm(material: str, wavelength_angstrom: float) -> float:
    """Linear attenuation coefficient, 1/mm, interpolated between tabulated energies in log-log.

    Parameters
    ----------
    material
        ``Si``, ``CdTe`` or ``GaAs``.
    wavelength_angstrom
        Photon wavelength; 1 to 150 keV are tabulated.

    Raises
    ------
    InputError
        The material or the energy is not tabulated.
    """
    if material not in _MU_OVER_RHO:
        known = ", ".join(_MU_OVER_RHO)
        raise InputError(f"unknown sensor material '{material}'", hint=f"known are {known}")
    energy_kev, coefficient = np.array(_MU_OVER_RHO[material].split(), dtype=np.float64).reshape(-1, 2).T
    kev = EV_ANGSTROM / wavelength_angstrom / 1000 if wavelength_angstrom > 0 else np.inf
    if not energy_kev[0] <= kev <= energy_kev[-1]:
        raise InputError(f"no attenuation coefficient of {material} for a wavelength of {wavelength_angstrom:g} A")
    upper = min(int(np.searchsorted(energy_kev, kev, side="right")), len(energy_kev) - 1)
    pair = slice(upper - 1, upper + 1)
    log_mu = np.interp(np.log(kev), np.log(energy_kev[pair]), np.log(coefficient[pair]))
    return float(np.exp(log_mu)) * _DENSITY_G_PER_CM3[material] / 10
