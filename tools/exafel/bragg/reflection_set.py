"""The reflections that stages 1 and 2 know: unique under the rotations of the space group, Bijvoet mates apart."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.errors import InputError
from exafel.io.crystal import CellParameters, space_group_of_hall
from exafel.io.mtz import ReferenceData, amplitudes

_SHELLS = 20
_WEAKEST = 0.1
"""Amplitudes start at no less than this part of their shell's root mean square: the logarithm needs them above zero."""


@dataclass(frozen=True, eq=False)
class ReflectionSet:
    """All unique reflections to a resolution.

    Parameters
    ----------
    hkl
        Indices, shape (n, 3): first those of the asymmetric unit of the Laue group, then the Bijvoet mates of its
        acentric reflections.
    mate
        Number of the Bijvoet mate; of a centric reflection its own, shape (n,).
    d
        Resolution, angstrom, shape (n,).
    position
        Number of the reflection that every index belongs to, -1 for none, shape (nh, nk, nl).
    first_hkl
        Indices of the first element of `position`, shape (3,).
    """

    hkl: Int32Array
    mate: IntArray
    d: FloatArray
    position: Int32Array
    first_hkl: IntArray
    space_group: gemmi.SpaceGroup
    cell: CellParameters

    def __len__(self) -> int:
        return len(self.hkl)

    def lookup(self, hkl: AnyArray) -> IntArray:
        """Numbers of the reflections that indices (n, 3) belong to; -1 for none."""
        place = np.asarray(hkl, dtype=np.int64) - self.first_hkl
        inside = np.all((place >= 0) & (place < self.position.shape), axis=1)
        found = np.full(len(place), -1, dtype=np.int64)
        found[inside] = self.position[tuple(place[inside].T)]
        return found

    def table(self, amplitude: FloatArray) -> StructureFactorTable:
        """Spread amplitudes (n,) over all symmetry equivalents, for the forward model."""
        squares = np.append(amplitude**2, 0.0)
        return StructureFactorTable(squares[self.position], self.first_hkl)

    def shells(self, n: int = _SHELLS) -> IntArray:
        """Resolution shell of each reflection, of equal counts, 0 the lowest, shape (n_reflections,)."""
        rank = np.argsort(np.argsort(-self.d, kind="stable"), kind="stable")
        return np.asarray(rank * n // max(len(self), 1), dtype=np.int64)


def reflection_set(cell: CellParameters, group: gemmi.SpaceGroup, d_min: float) -> ReflectionSet:
    """List the unique reflections of a cell to a resolution, systematic absences left out.

    Raises
    ------
    InputError
        There is none.
    """
    unit_cell = gemmi.UnitCell(*cell)
    laue = np.asarray(gemmi.make_miller_array(unit_cell, group, d_min), dtype=np.int32).reshape(-1, 3)
    if not len(laue):
        raise InputError(f"no reflections to {d_min} angstrom", hint="a finer d_min")
    operations = group.operations()
    centric = np.array([operations.is_reflection_centric(index) for index in laue.tolist()], dtype=bool)
    hkl = np.concatenate([laue, -laue[~centric]])
    mate = np.arange(len(hkl))
    plus = np.flatnonzero(~centric)
    minus = np.arange(len(laue), len(hkl))
    mate[plus], mate[minus] = minus, plus
    rotations = [np.array(op.rot, dtype=np.int32) // op.DEN for op in operations.sym_ops]
    # the identity last, so that an index listed here is its own
    equivalents = [hkl @ rotation for rotation in rotations[::-1]]
    reach = np.max([np.abs(item).max(axis=0) for item in equivalents], axis=0)
    position = np.full(2 * reach + 1, -1, dtype=np.int32)
    for indices in equivalents:
        position[tuple((indices + reach).T)] = np.arange(len(hkl), dtype=np.int32)
    d = np.asarray(unit_cell.calculate_d_array(hkl), dtype=np.float64)
    return ReflectionSet(hkl, mate, d, position, -reach.astype(np.int64), group, cell)


def starting_amplitudes(reflections: ReflectionSet, reference: ReferenceData) -> tuple[FloatArray, BoolArray]:
    """Amplitudes of all reflections from merged data, where they have them.

    A reflection that the data lack takes its Bijvoet mate's amplitude, else the root mean square of its shell, so that
    the model has photons wherever the crystal may scatter.

    Returns
    -------
    amplitude, known
        Shape (n,); `known` where the reflection or its mate was measured.

    Raises
    ------
    InputError
        The reference has another space group's symmetry, or nothing in common with the reflections.
    """
    if space_group_of_hall(reference.space_group).point_group_hm() != reflections.space_group.point_group_hm():
        raise InputError(f"amplitudes of space group {reference.space_group}, not of {reflections.space_group.hm}")
    where = reflections.lookup(reference.hkl)
    if reference.amplitude:
        value = reference.value
    else:
        sigma = np.where(reference.sigma > 0, reference.sigma, 1e-3 * np.abs(reference.value) + 1e-9)
        value, _ = amplitudes(reference.value, sigma)
    usable = (where >= 0) & np.isfinite(value)
    if not usable.any():
        raise InputError("the amplitudes and the crystal have no reflection in common")
    n = len(reflections)
    count = np.bincount(where[usable], minlength=n)
    total = np.bincount(where[usable], weights=value[usable], minlength=n)
    found = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    found = np.where(np.isfinite(found), found, found[reflections.mate])
    known = np.isfinite(found)
    rms = _shell_rms(reflections, found, known)
    return np.where(known, np.maximum(np.nan_to_num(found), _WEAKEST * rms), rms), known


def _shell_rms(reflections: ReflectionSet, amplitude: FloatArray, known: BoolArray) -> FloatArray:
    """Root mean square amplitude of each reflection's shell; empty shells take those beside them."""
    shell = reflections.shells()
    count = np.bincount(shell[known], minlength=_SHELLS)
    total = np.bincount(shell[known], weights=amplitude[known] ** 2, minlength=_SHELLS)
    filled = np.flatnonzero(count)
    rms = np.sqrt(np.interp(np.arange(_SHELLS), filled, total[filled] / count[filled]))
    return np.asarray(rms[shell])
