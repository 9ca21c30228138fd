"""What the lattices of a merge come to: numbers that add up, so that a merge can be added to another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from exafel.arrays import FloatArray
from exafel.io.crystal import CellParameters
from exafel.merging.passes import Gathered


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over lattices.

    Parameters
    ----------
    n_read, n_accepted
        Lattices in the input, and merged.
    n_integrated
        Integrated reflections of the lattices merged.
    cells
        Sum of their cells (angstrom, degrees), shape (6,).
    wavelengths
        Sum of their wavelengths, angstrom.
    n_correlated, correlations
        Lattices that were compared with a reference, and the sum of their correlations with it.
    reasons
        Lattices left out, by reason.
    reindexed
        Lattices merged, by number of the reindexing operator.
    """

    n_read: int
    n_accepted: int
    n_integrated: int
    cells: FloatArray
    wavelengths: float
    n_correlated: int
    correlations: float
    reasons: dict[str, int] = field(default_factory=dict)
    reindexed: dict[int, int] = field(default_factory=dict)

    @staticmethod
    def of(gathered: Gathered) -> Totals:
        """Add up the lattices of a merge."""
        table = gathered.table
        correlations = table.correlations[np.isfinite(table.correlations)]
        return Totals(
            n_read=gathered.n_read,
            n_accepted=len(table),
            n_integrated=int(table.n_integrated.sum()),
            cells=table.cells.sum(axis=0),
            wavelengths=float(table.wavelengths_angstrom.sum()),
            n_correlated=len(correlations),
            correlations=float(correlations.sum()),
            reasons=gathered.reasons,
            reindexed=dict(sorted(Counter(table.reindexed.astype(int).tolist()).items())),
        )

    def plus(self, other: Totals) -> Totals:
        """Sums over the lattices of both."""
        return Totals(
            self.n_read + other.n_read,
            self.n_accepted + other.n_accepted,
            self.n_integrated + other.n_integrated,
            self.cells + other.cells,
            self.wavelengths + other.wavelengths,
            self.n_correlated + other.n_correlated,
            self.correlations + other.correlations,
            dict(Counter(self.reasons) + Counter(other.reasons)),
            dict(sorted((Counter(self.reindexed) + Counter(other.reindexed)).items())),
        )

    @property
    def average_cell(self) -> CellParameters:
        """Mean cell, angstrom and degrees."""
        a, b, c, alpha, beta, gamma = (float(value) for value in self.cells / self.n_accepted)
        return a, b, c, alpha, beta, gamma

    @property
    def wavelength_angstrom(self) -> float:
        """Mean wavelength."""
        return self.wavelengths / self.n_accepted

    @property
    def mean_correlation(self) -> float | None:
        """Mean correlation of the lattices with the reference; None where there is none."""
        return self.correlations / self.n_correlated if self.n_correlated else None
