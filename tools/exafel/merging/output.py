"""Merged reflections as rows of an MTZ file."""

from __future__ import annotations

import numpy as np

from exafel.arrays import BoolArray, FloatArray, IntArray
from exafel.io.crystal import CellParameters
from exafel.io.mtz import MergedData
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.merge import Merged, Sums


def to_merged_data(merged: Merged, asu: AsymmetricUnit, cell: CellParameters, wavelength_angstrom: float) -> MergedData:
    """Bring Bijvoet mates into one row, in CCP4's asymmetric unit.

    The mean intensity of a row is the inverse-variance mean over the observations of both mates. Centric reflections
    count as plus mates.

    Parameters
    ----------
    merged
        Merged reflections.
    asu
        What their keys mean.
    cell, wavelength_angstrom
        Cell (angstrom, degrees) and mean wavelength to write.
    """
    base, row = np.unique(merged.keys >> 1, return_inverse=True)
    n = len(base)
    indices = asu.indices(base << 1)
    hkl, plus_hand = asu.ccp4(indices)
    total = merged.all.add_at(row, n)
    odd, even = merged.odd.add_at(row, n), merged.even.add_at(row, n)
    plus = minus = None
    if not asu.merge_anomalous:
        centric = asu.keys(indices) == asu.keys(-indices)
        is_plus = ((merged.keys & 1) == 0) == (plus_hand | centric)[row]
        plus, minus = _mate(merged.all, is_plus, row, n), _mate(merged.all, ~is_plus, row, n)
    return MergedData(
        hkl=hkl,
        cell=cell,
        space_group=asu.space_group.xhm(),
        wavelength_angstrom=wavelength_angstrom,
        intensity=total.mean,
        sigma=total.sigma,
        n_obs=total.n,
        intensity_plus=_mean(plus),
        sigma_plus=_sigma(plus),
        intensity_minus=_mean(minus),
        sigma_minus=_sigma(minus),
        intensity_half1=odd.mean,
        sigma_half1=odd.sigma,
        intensity_half2=even.mean,
        sigma_half2=even.sigma,
    )


def _mate(sums: Sums, chosen: BoolArray, row: IntArray, n: int) -> Sums:
    return sums.take(chosen).add_at(row[chosen], n)


def _mean(sums: Sums | None) -> FloatArray | None:
    return None if sums is None else sums.mean


def _sigma(sums: Sums | None) -> FloatArray | None:
    return None if sums is None else sums.sigma
