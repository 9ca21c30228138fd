"""Correction of intensities for the polarization of the incident beam."""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray
from exafel.io.geometry import Beam


def polarization_factor(s1: FloatArray, beam: Beam, fraction: float | None = None) -> FloatArray:
    """Relative intensity that a polarized beam scatters into each direction.

    Kahn, Fourme, Gadet, Janin, Dumas & Andre (1982) J. Appl. Cryst. 15, 330-337, equations 13-15:
    P = 1/2 [1 + cos^2(2 theta) + (2 f - 1) cos(2 rho) sin^2(2 theta)], with rho the azimuth of the scattered beam
    from the normal of the plane of polarization.

    Parameters
    ----------
    s1
        Scattered wave vectors of any length, shape (n, 3), laboratory frame.
    beam
        The beam: its direction, and the normal and fraction of its polarization.
    fraction
        Fraction f polarized in the plane, in place of the beam's; 0.5 is unpolarized.

    Returns
    -------
    Factors by which intensities were weakened, shape (n,); divide by them.
    """
    f = beam.polarization_fraction if fraction is None else fraction
    forward = -beam.direction / np.linalg.norm(beam.direction)
    normal = beam.polarization_normal - (beam.polarization_normal @ forward) * forward
    normal = normal / np.linalg.norm(normal)
    squared_length = np.einsum("ij,ij->i", s1, s1)
    cos_squared = (s1 @ forward) ** 2 / squared_length
    sin_squared = 1.0 - cos_squared
    # sin^2(2 theta) cos(2 rho) = 2 (along normal)^2 - sin^2(2 theta): needs no azimuth, which s1 along s0 lacks
    along_normal = (s1 @ normal) ** 2 / squared_length
    factor: FloatArray = 0.5 * (1.0 + cos_squared + (2.0 * f - 1.0) * (2.0 * along_normal - sin_squared))
    return factor
