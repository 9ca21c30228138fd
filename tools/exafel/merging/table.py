"""One row a lattice, on every rank: what the lattices that are merged have in common, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.errors import InputError
from exafel.io.crystal import CellParameters
from exafel.merging.lattices import Lattice

_COLUMNS = 12


@dataclass(frozen=True, eq=False)
class LatticeTable:
    """One row a lattice of all ranks, in the order of their digests: that of their numbers.

    Parameters
    ----------
    digests
        Unsigned integers, shape (n, 2).
    cells, wavelengths_angstrom, scales, correlations, n_integrated, n_kept, reindexed
        Shape (n, 6), then (n,).
    """

    digests: AnyArray
    cells: FloatArray
    wavelengths_angstrom: FloatArray
    scales: FloatArray
    correlations: FloatArray
    n_integrated: FloatArray
    n_kept: FloatArray
    reindexed: FloatArray

    def __len__(self) -> int:
        return len(self.cells)

    def take(self, rows: AnyArray) -> LatticeTable:
        """Return chosen lattices."""
        return LatticeTable(*(getattr(self, field.name)[rows] for field in fields(self)))

    def average_cell(self) -> CellParameters:
        """Mean cell, angstrom and degrees."""
        a, b, c, alpha, beta, gamma = (float(value) for value in self.cells.mean(axis=0))
        return a, b, c, alpha, beta, gamma


def table_rows(lattices: Sequence[Lattice]) -> tuple[AnyArray, FloatArray]:
    """Digests (n, 2) and rows (n, 12) of some lattices, for `order_table`."""
    digests = np.array([item.digest for item in lattices], dtype=np.uint64).reshape(-1, 2)
    rows = [
        (*i.cell, i.wavelength_angstrom, i.scale, i.correlation, i.n_integrated, len(i.keys), i.reindexed)
        for i in lattices
    ]
    return digests, np.array(rows, dtype=np.float64).reshape(-1, _COLUMNS)


def order_table(digests: AnyArray, rows: FloatArray) -> tuple[LatticeTable, IntArray]:
    """Put lattices in the order of their digests, the same whatever rank or file each was in.

    Returns
    -------
    The table, and the row in it of each lattice as given.

    Raises
    ------
    InputError
        A lattice is there twice.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    twice = int(np.all(ordered[1:] == ordered[:-1], axis=1).sum())
    if twice:
        raise InputError(
            f"{twice} lattices are in the input twice",
            hint="give each folder once; images of two runs need folders of different names",
        )
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.arange(len(order))
    values = rows[order]
    return LatticeTable(ordered, values[:, :6], *(values[:, column] for column in range(6, _COLUMNS))), numbers
