"""Indexings of one lattice that its metric cannot tell apart, and the choice between them against a reference."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.scaling import Reference, correlation_with

GENERAL = np.array([[30, 102, 246]])
"""A reflection that only the identity leaves where it is, and that no centring forbids."""
_MIN_COMMON = 3


def reindexing_operators(group: gemmi.SpaceGroup, cell: gemmi.UnitCell, max_obliquity_deg: float) -> FloatArray:
    """Operators that index a lattice anew on the same nodes, one for each indexing that differs in its intensities.

    They are the rotations of the lattice, to a tolerance of its metric, of which no two differ by an operation of the
    Laue group.

    Parameters
    ----------
    group, cell
        Space group and cell that lattices are merged in.
    max_obliquity_deg
        Le Page's obliquity up to which an axis counts as one of the lattice, degrees.

    Returns
    -------
    Matrices W that turn row vectors of indices, h' = h W, shape (m, 3, 3); the identity is the first. They may have
    thirds in them, which make whole indices of reflections that the centring allows.
    """
    asu = AsymmetricUnit(group, merge_anomalous=True)
    lattice = gemmi.find_lattice_symmetry(cell, group.centring_type(), max_obliquity_deg)
    found: dict[int, FloatArray] = {int(asu.keys(GENERAL)[0]): np.eye(3)}
    for op in lattice.sym_ops:
        matrix = np.array(op.rot) / gemmi.Op.DEN
        found.setdefault(int(asu.keys(reindex(GENERAL, matrix))[0]), matrix)
    return np.stack(list(found.values()))


def reindex(hkl: AnyArray, operator: FloatArray) -> FloatArray:
    """Indices (n, 3) after an operator (3, 3), whole numbers."""
    result: FloatArray = np.rint(hkl @ operator)
    return result


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """The indexings that lattices choose from.

    Parameters
    ----------
    operators
        See `reindexing_operators`, shape (m, 3, 3).
    asu
        Asymmetric unit in which Bijvoet mates are merged.
    reference
        Intensities to agree with.
    """

    operators: FloatArray
    asu: AsymmetricUnit
    reference: Reference

    def label(self, number: int) -> str:
        """Name an operator by the indices that it makes, such as k,h,-l."""
        return ",".join(_sum_of_indices(column) for column in self.operators[number].T)

    def choose(self, hkl: AnyArray, intensity: FloatArray) -> int:
        """Number of the operator after which a lattice correlates best with the reference; 0 where none does.

        Parameters
        ----------
        hkl, intensity
            The lattice's reflections, shape (n, 3) and (n,).
        """
        correlations = [self._correlation(reindex(hkl, operator), intensity) for operator in self.operators]
        best = int(np.argmax(correlations))
        return best if correlations[best] > correlations[0] else 0

    def _correlation(self, hkl: AnyArray, intensity: FloatArray) -> float:
        expected = self.reference.look_up(self.asu.keys(hkl))
        known = np.isfinite(expected)
        if np.count_nonzero(known) < _MIN_COMMON:
            return 0.0
        return correlation_with(intensity[known], expected[known])


def _sum_of_indices(factors: FloatArray) -> str:
    terms = []
    for factor, name in zip(factors.tolist(), "hkl", strict=True):
        if factor:
            size = "" if abs(factor) == 1 else f"{Fraction(abs(factor)).limit_denominator(24)}*"
            terms.append(f"{'-' if factor < 0 else '+'}{size}{name}")
    return "".join(terms).removeprefix("+")
