"""How far indexed lattices are from the truth: orientations modulo symmetry, and unit cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray
from exafel.io.crystal import Crystal
from exafel.stills.misorientation import Equivalence, misorientation_deg


@dataclass(frozen=True, eq=False)
class LatticeErrors:
    """Errors of lattices, one element each.

    Parameters
    ----------
    misorientation_deg
        Angle to the true orientation, shape (n,).
    cell_angstrom
        Found minus true a, b and c, shape (n, 3).
    """

    misorientation_deg: FloatArray
    cell_angstrom: FloatArray

    def __len__(self) -> int:
        return len(self.misorientation_deg)

    def better_than(self, limit_deg: float) -> LatticeErrors:
        """Lattices whose misorientation is at most `limit_deg`."""
        good = self.misorientation_deg <= limit_deg
        return LatticeErrors(self.misorientation_deg[good], self.cell_angstrom[good])

    @property
    def cell_rms_angstrom(self) -> tuple[float, float, float]:
        """Root mean square error of a, b and c; at least one lattice is needed."""
        a, b, c = np.sqrt(np.mean(self.cell_angstrom**2, axis=0))
        return float(a), float(b), float(c)


def lattice_errors(pairs: list[tuple[Crystal, Crystal]], *, equivalence: Equivalence = "laue") -> LatticeErrors:
    """Compare found with true lattices, indexed in the same setting.

    Parameters
    ----------
    pairs
        (found, true).
    equivalence
        Indexings that count as the same orientation, see `misorientation_deg`.
    """
    angles = [misorientation_deg(found.A, true.A, true.space_group, equivalence=equivalence) for found, true in pairs]
    lengths = [np.subtract(found.cell[:3], true.cell[:3]) for found, true in pairs]
    return LatticeErrors(np.array(angles, dtype=np.float64), np.array(lengths, dtype=np.float64).reshape(-1, 3))
