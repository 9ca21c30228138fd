"""Putting lattices on the scale of a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class LatticeScale:
    """The scale of one lattice.

    Parameters
    ----------
    scale
        Factor that brings the lattice's intensities to the reference's.
    correlation
        Pearson correlation with the reference.
    n
        Number of reflections in common.
    """

    scale: float
    correlation: float
    n: int


def scale_to_reference(observed: FloatArray, reference: FloatArray) -> LatticeScale:
    """Least-squares scale of a lattice with unit weights: sum(Io Ir) / sum(Io^2).

    Parameters
    ----------
    observed, reference
        Intensities of the reflections that both have, shape (n,).

    Returns
    -------
    Scale, correlation and number; the correlation is 0 where fewer than three reflections or no variation define it.
    """
    n = len(observed)
    power = float(observed @ observed)
    if n < 3 or power == 0:
        return LatticeScale(1.0, 0.0, n)
    return LatticeScale(float(observed @ reference) / power, correlation_with(observed, reference), n)


def scale_to_merged(observed: FloatArray, merged: FloatArray) -> LatticeScale:
    """Least-squares scale of a lattice to what lattices give together: sum(Im^2) / sum(Io Im).

    The errors are the lattice's, so it is regressed on the merged intensities: the slope of `scale_to_reference` would
    shrink by the lattice's noise in every cycle.

    Parameters
    ----------
    observed, merged
        Intensities of the reflections that both have, shape (n,).

    Returns
    -------
    As `scale_to_reference`; the correlation is 0 where there is no positive scale.
    """
    n = len(observed)
    product = float(observed @ merged)
    if n < 3 or product <= 0:
        return LatticeScale(1.0, 0.0, n)
    return LatticeScale(float(merged @ merged) / product, correlation_with(observed, merged), n)


def correlation_with(observed: FloatArray, reference: FloatArray) -> float:
    """Pearson correlation of two sets of intensities (n,); 0 where too few or no variation define it."""
    if len(observed) < 3:
        return 0.0
    x, y = observed - observed.mean(), reference - reference.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Reference:
    """Intensities to compare with, by asymmetric-unit key.

    Parameters
    ----------
    keys, intensities
        Sorted, distinct keys (see `exafel.merging.asu`) and their intensities, shape (n,).
    """

    keys: IntArray
    intensities: FloatArray

    @staticmethod
    def of(keys: IntArray, intensities: FloatArray) -> Reference:
        """Make a reference of keys in any order; the first of equal keys counts."""
        distinct, first = np.unique(keys, return_index=True)
        return Reference(distinct, intensities[first])

    def look_up(self, keys: IntArray) -> FloatArray:
        """Intensities of keys (n,); NaN where the reference has none."""
        if not len(self.keys):
            return np.full(len(keys), np.nan)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.intensities[place], np.nan)
