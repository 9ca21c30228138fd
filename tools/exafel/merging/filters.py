"""Which lattices, and which reflections of a lattice, are merged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import gemmi
import numpy as np

from exafel.arrays import BoolArray, FloatArray
from exafel.config.merge import SignificanceFilterConfig, UnitCellFilterConfig
from exafel.io.crystal import space_group_of_hall


def similar_cells(cell: Sequence[float], target: Sequence[float], config: UnitCellFilterConfig) -> bool:
    """Whether each edge is within the relative and each angle within the absolute tolerance of the target's.

    Parameters
    ----------
    cell, target
        Cell parameters a, b, c (angstrom), alpha, beta, gamma (degrees).
    """
    lengths, wanted = np.array(cell[:3]), np.array(target[:3])
    relative = np.abs(lengths - wanted) / np.minimum(lengths, wanted)
    angles = np.abs(np.array(cell[3:]) - np.array(target[3:]))
    return bool(
        relative.max() <= config.relative_length_tolerance and angles.max() <= config.absolute_angle_tolerance_deg
    )


@lru_cache(maxsize=1024)
def same_laue_group(first: str, second: str) -> bool:
    """Whether two space groups, by Hall symbol, share Laue group, centring and axes: stills cannot tell more than that.

    The operations are compared, not the symbols: P 3 1 2 and P 3 2 1 are both called -3m, P 1 1 2 and P 1 2 1 both 2/m.
    """
    return bool(_patterson_group(first) == _patterson_group(second))


def _patterson_group(hall: str) -> gemmi.GroupOps:
    group = space_group_of_hall(hall).operations().derive_symmorphic()
    group.add_inversion()
    return group


def equal_volume_shells(d_star_sq_min: float, d_star_sq_max: float, n_shells: int) -> FloatArray:
    """Limits in 1/d^2 of shells of equal reciprocal volume, shape (n_shells + 1,)."""
    volumes = np.linspace(d_star_sq_min**1.5, d_star_sq_max**1.5, n_shells + 1)
    limits: FloatArray = np.cbrt(volumes) ** 2
    limits[0], limits[-1] = d_star_sq_min, d_star_sq_max
    return limits


def significant(d_star_sq: FloatArray, i_over_sigma: FloatArray, config: SignificanceFilterConfig) -> BoolArray:
    """Reflections of one lattice up to the resolution where its signal ends.

    The lattice is divided into shells of equal volume, as many as `n_bins` asks for, unless that leaves fewer than
    `min_ct` or more than `max_ct` reflections in a shell. Shells are kept from low resolution on as long as their mean
    I/sigma is above `sigma`; empty shells do not count.

    Parameters
    ----------
    d_star_sq, i_over_sigma
        1/d^2 (1/angstrom^2) and I/sigma of each reflection, shape (n,).

    Returns
    -------
    Whether each reflection is kept, shape (n,).
    """
    n = len(d_star_sq)
    if n == 0:
        return np.zeros(0, dtype=bool)
    n_shells = max(min(config.n_bins, n // config.min_ct), n // config.max_ct, 1)
    limits = equal_volume_shells(float(d_star_sq.min()), float(d_star_sq.max()), n_shells)
    shell = np.clip(np.searchsorted(limits, d_star_sq, side="right") - 1, 0, n_shells - 1)
    counts = np.bincount(shell, minlength=n_shells)
    sums = np.bincount(shell, weights=i_over_sigma, minlength=n_shells)
    weak = (counts > 0) & (sums <= config.sigma * counts)
    first_weak = int(np.argmax(weak)) if weak.any() else n_shells
    return np.asarray(shell < first_weak)
