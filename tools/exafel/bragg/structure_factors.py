"""Structure factors as the forward model looks them up: a dense table over all indices."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.errors import InputError


@dataclass(frozen=True, eq=False)
class StructureFactorTable:
    """Squared amplitudes of all reflections, symmetry equivalents included.

    Parameters
    ----------
    f_squared
        |F|^2 by (h, k, l) - `first_hkl`, electrons squared, shape (nh, nk, nl); zero for what is not known.
    first_hkl
        Indices of the first element, shape (3,).
    """

    f_squared: FloatArray
    first_hkl: IntArray

    @property
    def tables(self) -> FloatArray:
        """The one table as the forward model takes it, shape (1, nh, nk, nl)."""
        return self.f_squared[None]

    def bases(self, wavelengths_angstrom: FloatArray) -> FloatArray:
        """Ones, shape (1, n): the same in all channels."""
        return np.ones((1, len(wavelengths_angstrom)))

    def lookup(self, hkl: AnyArray) -> FloatArray:
        """Return |F|^2 of indices of shape (n, 3); zero outside the table."""
        position = np.asarray(hkl, dtype=np.int64) - self.first_hkl
        inside = np.all((position >= 0) & (position < self.f_squared.shape), axis=1)
        found = np.zeros(len(position))
        found[inside] = self.f_squared[tuple(position[inside].T)]
        return found


def structure_factor_table(
    hkl: AnyArray, amplitude: AnyArray, space_group: gemmi.SpaceGroup, *, anomalous: bool = False
) -> StructureFactorTable:
    """Spread amplitudes over all symmetry equivalents.

    Parameters
    ----------
    hkl, amplitude
        Indices (n, 3) and |F| (n,), electrons; any choice of asymmetric unit.
    space_group
        Symmetry of the crystal.
    anomalous
        Whether `hkl` holds both Bijvoet mates; otherwise |F(-h)| = |F(h)| is put in.

    Raises
    ------
    InputError
        There is no reflection, or an amplitude is not a number.
    """
    indices = np.asarray(hkl, dtype=np.int64).reshape(-1, 3)
    values = np.asarray(amplitude, dtype=np.float64)
    if not len(indices) or not np.all(np.isfinite(values)):
        raise InputError("structure factors must be finite, and one at least is needed")
    tables, first = index_tables(indices, values[None] ** 2, space_group, friedel=not anomalous)
    return StructureFactorTable(tables[0], first)


def index_tables(
    hkl: AnyArray, values: FloatArray, space_group: gemmi.SpaceGroup, *, friedel: bool
) -> tuple[FloatArray, IntArray]:
    """Lay out values that symmetry equivalents share by their indices.

    Parameters
    ----------
    hkl, values
        Indices (n, 3) in any choice of asymmetric unit, and rows of values (k, n).
    space_group
        Symmetry of the crystal.
    friedel
        Whether Friedel mates have the same values.

    Returns
    -------
    tables
        Shape (k, nh, nk, nl), zero for what is not known.
    first_hkl
        Indices of their first element, shape (3,).
    """
    rotations = [np.array(op.rot) // op.DEN for op in space_group.operations().sym_ops]
    rotations += [-rotation for rotation in rotations] if friedel else []
    equivalents = np.concatenate([np.asarray(hkl, dtype=np.int64) @ rotation for rotation in rotations])
    first = equivalents.min(axis=0)
    tables = np.zeros((len(values), *(equivalents.max(axis=0) - first + 1)))
    tables[:, *(equivalents - first).T] = np.tile(values, len(rotations))
    return tables, first
