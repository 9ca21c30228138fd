"""Unmerged intensities as a multi-record MTZ file, a batch a lattice, for programs that merge themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.io.crystal import CellParameters
from exafel.io.files import atomic_write
from exafel.io.mtz import new_mtz

_COLUMNS = (("M/ISYM", "Y"), ("BATCH", "B"), ("I", "J"), ("SIGI", "Q"))


@dataclass(frozen=True, eq=False)
class UnmergedData:
    """Observations, one row each.

    Parameters
    ----------
    hkl
        Indices in any asymmetric unit, those of a minus mate for a minus mate, shape (n, 3).
    lattice
        Number of the lattice, from 0, shape (n,).
    intensity, sigma
        Shape (n,).
    cells, wavelengths_angstrom
        Cell (angstrom, degrees) and wavelength of each lattice, shape (m, 6) and (m,).
    """

    hkl: AnyArray
    lattice: IntArray
    intensity: FloatArray
    sigma: FloatArray
    cells: FloatArray
    wavelengths_angstrom: FloatArray


def write_unmerged_mtz(path: Path, data: UnmergedData, cell: CellParameters, group: str) -> None:
    """Write observations: ``H K L M/ISYM BATCH I SIGI``; lattice number n is batch n + 1.

    Raises
    ------
    ExafelError
        The file cannot be written.
    ConfigError
        The space group is unknown.
    """
    mtz = new_mtz("Unmerged serial diffraction data", group, cell, float(np.mean(data.wavelengths_angstrom)), "exafel")
    for label, kind in _COLUMNS:
        mtz.add_column(label, kind)
    columns = (data.hkl, np.ones(len(data.hkl)), data.lattice + 1, data.intensity, data.sigma)
    mtz.set_data(np.column_stack(columns).astype(np.float32))
    for number, (cell_of, wavelength) in enumerate(zip(data.cells, data.wavelengths_angstrom, strict=True)):
        batch = gemmi.Mtz.Batch()
        batch.number = number + 1
        batch.dataset_id = mtz.datasets[-1].id
        batch.cell = gemmi.UnitCell(*(float(value) for value in cell_of))
        batch.wavelength = float(wavelength)
        mtz.batches.append(batch)
    mtz.switch_to_asu_hkl()  # sets M/ISYM
    mtz.sort(5)
    with atomic_write(path) as stream:
        stream.write(mtz.write_to_bytes())
