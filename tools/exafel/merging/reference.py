"""Reference intensities: from an MTZ, or calculated from coordinates with flat bulk solvent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray, Int32Array
from exafel.config.scaling import BulkSolventConfig
from exafel.errors import ConfigError, InputError
from exafel.io.crystal import CellParameters
from exafel.io.mtz import read_mtz
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.scaling import Reference

_COORDINATES = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True, eq=False)
class ReferenceModel:
    """Intensities of a known structure with its cell and symmetry.

    Parameters
    ----------
    hkl
        Shape (n, 3); minus Bijvoet mates, where the file has them, have the negative of the asu index.
    intensity
        Shape (n,).
    cell, space_group
        Cell parameters (angstrom, degrees) and Hall symbol.
    """

    hkl: Int32Array
    intensity: FloatArray
    cell: CellParameters
    space_group: str

    def by_key(self, asu: AsymmetricUnit) -> Reference:
        """Intensities by key; a Bijvoet mate that is missing takes the intensity of the other."""
        hkl = np.concatenate([self.hkl, -self.hkl])
        return Reference.of(asu.keys(hkl), np.concatenate([self.intensity, self.intensity]))


def read_reference(
    path: Path, *, d_min: float | None, solvent: BulkSolventConfig, column: str | None = None
) -> ReferenceModel:
    """Read or calculate reference intensities.

    Parameters
    ----------
    path
        MTZ, PDB or mmCIF (also with ``.gz``).
    d_min
        High resolution limit, angstrom; coordinates need one.
    solvent
        Bulk solvent of coordinates.
    column
        Column of an MTZ; None: the first that fits.

    Raises
    ------
    InputError
        The file cannot be read, or has no atoms, cell or symmetry.
    ConfigError
        The file's kind is unknown, or coordinates are given without `d_min`.
    """
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind.lower() == ".mtz":
        data = read_mtz(path, column)
        return ReferenceModel(data.hkl, data.intensities()[0], data.cell, data.space_group)
    if kind.lower() not in _COORDINATES:
        raise ConfigError("the reference must be MTZ, PDB or mmCIF", where=path)
    if d_min is None:
        raise ConfigError("a reference from coordinates needs merge.d_min", where=path)
    structure = _read_structure(path)
    group = structure.find_spacegroup()
    assert group is not None  # `_read_structure` has seen to it
    hkl, amplitude = structure_factors(structure, d_min, solvent)
    cell = structure.cell
    parameters = (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma)
    return ReferenceModel(hkl, np.abs(amplitude) ** 2, parameters, group.hall)


def _read_structure(path: Path) -> gemmi.Structure:
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot read the structure: {error}", where=path) from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError("no atoms in the structure", where=path)
    if not structure.cell.is_crystal() or structure.find_spacegroup() is None:
        raise InputError("no unit cell or space group in the structure", where=path, hint="it needs a CRYST1 record")
    structure.setup_entities()
    return structure


def structure_factors(
    structure: gemmi.Structure, d_min: float, solvent: BulkSolventConfig
) -> tuple[Int32Array, AnyArray]:
    """Complex structure factors of a structure's first model: F = F_atoms + k_sol exp(-B_sol s^2 / 4) F_mask.

    F_atoms comes from the electron density on a grid (blurred against aliasing, and deblurred), F_mask from a flat
    solvent mask (Jiang & Brunger (1994), J. Mol. Biol. 243, 100-115; Phillips (1980)).

    Parameters
    ----------
    structure
        With cell and space group.
    d_min
        High resolution limit, angstrom.
    solvent
        Bulk solvent; k_sol in electrons per cubic angstrom.

    Returns
    -------
    hkl
        Unique indices, shape (n, 3).
    F
        Complex structure factors, electrons, shape (n,).
    """
    model = structure[0]
    calculator = gemmi.DensityCalculatorX()
    calculator.d_min = d_min
    calculator.rate = 1.5
    calculator.set_refmac_compatible_blur(model)
    calculator.set_grid_cell_and_spacegroup(structure)
    calculator.put_model_density_on_grid(model)
    atoms = gemmi.transform_map_to_f_phi(calculator.grid).prepare_asu_data(dmin=d_min, unblur=calculator.blur)
    hkl, total = atoms.miller_array, np.asarray(atoms.value_array, dtype=np.complex128)
    if solvent.enabled and solvent.k_sol > 0:
        mask = _solvent(structure, d_min)
        if not np.array_equal(mask.miller_array, hkl):
            raise InputError("the solvent mask has other reflections than the atoms")
        quarter = np.asarray(atoms.make_1_d2_array(), dtype=np.float64) / 4.0
        total += solvent.k_sol * np.exp(-solvent.b_sol * quarter) * np.asarray(mask.value_array)
    return np.asarray(hkl, dtype=np.int32), total


def _solvent(structure: gemmi.Structure, d_min: float) -> gemmi.ComplexAsuData:
    grid = gemmi.FloatGrid()
    grid.setup_from(structure, spacing=min(0.6, d_min / 4.0))
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(grid, structure[0])
    return gemmi.transform_map_to_f_phi(grid).prepare_asu_data(dmin=d_min)
