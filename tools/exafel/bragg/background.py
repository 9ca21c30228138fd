"""Diffuse background: of water, of air, or as measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from exafel.arrays import FloatArray
from exafel.bragg.forward import pixel_factors
from exafel.bragg.scene import CLASSICAL_ELECTRON_RADIUS_SQUARED_M2
from exafel.errors import InputError
from exafel.io.geometry import Beam, Detector

WATER_MOLECULES_PER_M3 = 3.3328e28
"""Number density of water at 25 C: 997.05 kg/m^3 over 18.015 g/mol."""
AIR_MOLECULES_PER_M3 = 2.4463e25
"""Number density of a gas at 25 C and one atmosphere."""

# Structure factor of a molecule against sin(theta)/lambda (1/angstrom): the rough values for water and for air that are
# in use with nanoBragg.
_WATER = """0 2.57  0.0365 2.58  0.07 2.8  0.12 5  0.162 8  0.18 7.32  0.2 6.75  0.216 6.75  0.236 6.5  0.28 4.5
    0.3 4.3  0.345 4.36  0.436 3.77  0.5 3.17"""
_AIR = "0 14.1  0.045 13.5  0.174 8.35  0.35 4.78  0.5 4.22"


def water_intensity(q: FloatArray) -> FloatArray:
    """Scattering of liquid water a molecule, electron units, like `q` = 4 pi sin(theta) / lambda in 1/angstrom."""
    return _intensity(_WATER, q)


def air_intensity(q: FloatArray) -> FloatArray:
    """Scattering of air a molecule, electron units, like `q` = 4 pi sin(theta) / lambda in 1/angstrom."""
    return _intensity(_AIR, q)


def diffuse_background(
    detector: Detector, beam: Beam, *, water_um: float = 0.0, air_mm: float = 0.0, absorption: bool = False
) -> FloatArray:
    """Photons that water and air scatter into each pixel for one photon of the pulse, shape (n_pixels,).

    ``(molecules per area) * r_e^2 * Omega * P * I(q)``, with `absorption` times the part that the sensor absorbs.
    """
    omega_p, cos_two_theta = pixel_factors(detector, beam, absorption=absorption)
    q = _q_of(cos_two_theta, beam)
    grid = np.linspace(0, 4 * np.pi / beam.wavelength_angstrom, 4096)
    water = water_um * 1e-6 * WATER_MOLECULES_PER_M3 * water_intensity(grid)
    air = air_mm * 1e-3 * AIR_MOLECULES_PER_M3 * air_intensity(grid)
    return np.asarray(CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 * omega_p * np.interp(q, grid, water + air))


def measured_background(path: Path, detector: Detector, beam: Beam) -> FloatArray:
    """Photons a pixel of a mean pulse from a measured radial profile, shape (n_pixels,).

    Parameters
    ----------
    path
        CSV file with a header and two columns: q (1/angstrom, ascending) and mean photons a pixel. Between its rows it
        is interpolated in straight lines; beyond its ends it keeps the last value.
    detector, beam
        Where the pixels are.

    Raises
    ------
    InputError
        The file is missing, is not such a table, or has values that are negative or no numbers.
    """
    try:
        table = pd.read_csv(path, comment="#").to_numpy(dtype=np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"not a table of q and photons: {error}", where=path) from error
    if table.ndim != 2 or table.shape[1] != 2 or len(table) < 2:
        raise InputError("a background profile has two columns, q and photons, and two rows at least", where=path)
    if not np.all(np.isfinite(table)) or np.any(table < 0) or np.any(np.diff(table[:, 0]) <= 0):
        raise InputError("q must ascend, and neither q nor photons may be negative or missing", where=path)
    _, cos_two_theta = pixel_factors(detector, beam)
    return np.asarray(np.interp(_q_of(cos_two_theta, beam), table[:, 0], table[:, 1]))


def _q_of(cos_two_theta: FloatArray, beam: Beam) -> FloatArray:
    return np.asarray(4 * np.pi / beam.wavelength_angstrom * np.sqrt(np.clip(1 - cos_two_theta, 0, 2) / 2))


def _intensity(table: str, q: FloatArray) -> FloatArray:
    stol, amplitude = np.array(table.split(), dtype=np.float64).reshape(-1, 2).T
    curve = PchipInterpolator(stol, amplitude)
    return np.asarray(curve(np.clip(q / (4 * np.pi), stol[0], stol[-1])) ** 2)
