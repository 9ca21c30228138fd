"""How far a reciprocal-lattice point is from the Ewald sphere, and where its spot appears all the same."""

from __future__ import annotations

import numpy as np

from exafel.arrays import FloatArray


def rotate_to_ewald(
    r: FloatArray, s0_unit: FloatArray, wave_number: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    """Rotate reciprocal-lattice points onto the Ewald sphere by the shortest way.

    The axis is perpendicular to the beam and to r. With |s0 + r'| = |s0| and |r'| = |r|, the component of r' against
    the beam is |r|^2 / (2 |s0|), the rest of r' lies in the plane of s0 and r (the prediction of stills in DIALS;
    Sauter et al. 2014, Acta Cryst. D70, 3299).

    Parameters
    ----------
    r
        Reciprocal-lattice points, shape (n, 3), 1/angstrom.
    s0_unit
        Unit vector along the incident beam, shape (3,).
    wave_number
        1 / wavelength, for all or for each, 1/angstrom.

    Returns
    -------
    s1
        Wave vectors of the diffracted rays, shape (n, 3), 1/angstrom; NaN where |r| > 2 / wavelength.
    delta_psi
        Angle from r to the Ewald sphere, positive where r lies outside the sphere, shape (n,), rad.
    """
    k = np.broadcast_to(np.asarray(wave_number, dtype=np.float64), len(r))
    along = r @ s0_unit
    across = r - along[:, None] * s0_unit
    width = np.linalg.norm(across, axis=1)
    length2 = (r**2).sum(axis=1)
    on_along = -length2 / (2 * k)
    with np.errstate(invalid="ignore"):
        on_width = np.sqrt(length2 - on_along**2)
    direction = across / np.maximum(width, 1e-300)[:, None]
    s1 = (k + on_along)[:, None] * s0_unit + on_width[:, None] * direction
    delta_psi = np.arctan2(on_width * along - on_along * width, on_along * along + on_width * width)
    return s1, delta_psi
