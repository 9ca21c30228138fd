"""How well chance would do: what tells a lattice from a coincidence."""

from __future__ import annotations

import numpy as np

from exafel.stills.refinement import Refined


def filled_fraction(found: Refined, hkl_tolerance: float) -> float:
    """Part of the reciprocal cell's volume in which a spot counts as fitting: within three standard deviations."""
    box = np.prod(6.0 * found.spread, axis=1)
    fraction = np.minimum(box / abs(float(np.linalg.det(found.A))), (2.0 * hkl_tolerance) ** 3)
    return float(np.median(fraction))


def chance_exponent(found: Refined, n_spots: int, hkl_tolerance: float) -> float:
    """Return -ln of (a bound on) the probability that a lattice laid at random fits so many spots so well.

    A spot of no lattice lies anywhere in the cell of the reciprocal lattice; it counts as fitting where its three
    displacements are within three standard deviations, that is in a fraction p of the cell's volume. The Chernoff
    bound on n of N spots is exp(-N KL(n/N, p)), with KL the relative entropy of two coins. The search tries many
    orientations, so the exponent has to be well above the logarithm of their number.
    """
    p = filled_fraction(found, hkl_tolerance)
    share = min(found.n_used / n_spots, 1.0 - 1e-9)
    if share <= p:
        return 0.0
    return n_spots * float(share * np.log(share / p) + (1 - share) * np.log((1 - share) / (1 - p)))
