"""Structure factors from coordinates: density on a grid, bulk solvent, anomalous scattering."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import AnyArray, ComplexArray, FloatArray
from exafel.errors import InputError
from exafel.io.geometry import EV_ANGSTROM

SOLVENT_DENSITY = 0.35
"""Electron density of bulk solvent, electrons per cubic angstrom (Fokine & Urzhumtsev 2002, Acta Cryst. D58, 1387)."""
SOLVENT_B = 46.0
"""Displacement factor that smooths the solvent's border, square angstrom (same source)."""


def read_structure(path: Path) -> gemmi.Structure:
    """Read a PDB or mmCIF file, gzipped or not.

    Raises
    ------
    InputError
        The file is missing, cannot be parsed, has no atoms, no unit cell or no space group.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=path) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"not a structure file: {error}", where=path, hint="give a PDB or mmCIF file") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError("no atoms", where=path)
    if not structure.cell.is_crystal() or structure.find_spacegroup() is None:
        raise InputError("no unit cell or space group (CRYST1)", where=path)
    return structure


def structure_factors(
    path: Path, d_min: float, wavelength: float | None = None, *, solvent: bool = True
) -> tuple[AnyArray, ComplexArray]:
    """Structure factors of a PDB or mmCIF model.

    The density of its atoms (International Tables' form factors with the model's displacement factors) is laid on a
    grid and transformed; bulk solvent is a flat mask (Jiang & Brunger 1994, J. Mol. Biol. 243, 100).

    Parameters
    ----------
    path
        PDB or mmCIF file with a unit cell and a space group.
    d_min
        Resolution limit, angstrom.
    wavelength
        Angstrom. With it, anomalous scattering (Cromer & Liberman 1970, J. Chem. Phys. 53, 1891) is included, and the
        indices hold both Bijvoet mates, first all of the asymmetric unit and then all of their Friedel mates; without
        it, only the asymmetric unit, for which |F(h)| = |F(-h)|.
    solvent
        Whether to include bulk solvent.

    Returns
    -------
    hkl
        Indices, int32, shape (n, 3); no absences.
    F
        Complex structure factors, electrons, shape (n,).

    Raises
    ------
    InputError
        The file cannot be used.
    """
    structure = read_structure(path)
    density = gemmi.DensityCalculatorX()
    density.d_min = d_min
    density.rate = 2.0
    if wavelength is not None:
        density.addends.add_cl_fprime(EV_ANGSTROM / wavelength)
    density.set_refmac_compatible_blur(structure[0])
    density.set_grid_cell_and_spacegroup(structure)
    density.put_model_density_on_grid(structure[0])
    atoms = gemmi.transform_map_to_f_phi(density.grid, half_l=True).prepare_asu_data(dmin=d_min, unblur=density.blur)
    hkl = np.asarray(atoms.miller_array, dtype=np.int32)
    F = np.asarray(atoms.value_array, dtype=np.complex128)
    if solvent:
        F = F + _solvent(structure, d_min, hkl)
    if wavelength is None:
        return hkl, F
    # f' is real and is in F already; f'' makes F(-h) differ from the conjugate of F(h).
    absorbed = _imaginary_part(structure, EV_ANGSTROM / wavelength, hkl)
    mates = np.conj(F) + 1j * np.conj(absorbed)
    return np.concatenate([hkl, -hkl]), np.concatenate([F + 1j * absorbed, mates])


def _solvent(structure: gemmi.Structure, d_min: float, hkl: AnyArray) -> ComplexArray:
    mask = gemmi.FloatGrid()
    mask.setup_from(structure, spacing=min(0.6, d_min / 4))
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(mask, structure[0])
    transformed = gemmi.transform_map_to_f_phi(mask, half_l=True).prepare_asu_data(dmin=d_min)
    if not np.array_equal(transformed.miller_array, hkl):
        raise AssertionError("atoms and solvent have the same asymmetric unit")
    stol2 = structure.cell.calculate_1_d2_array(hkl) / 4
    return np.asarray(SOLVENT_DENSITY * np.exp(-SOLVENT_B * stol2) * transformed.value_array)


def element_structure_factors(path: Path, element: str, hkl: AnyArray) -> ComplexArray:
    """Sum over the atoms of one element of occ exp(-B s^2) exp(2 pi i h x), shape (n,), for indices (n, 3).

    Raises
    ------
    InputError
        The file cannot be used.
    """
    structure = read_structure(path)
    sites = [site.atom for site in structure[0].all() if site.atom.element.name == element]
    return _sum_over_atoms(structure, sites, np.array([atom.occ for atom in sites]), hkl)


def _imaginary_part(structure: gemmi.Structure, energy_ev: float, hkl: AnyArray) -> ComplexArray:
    """Sum over all atoms of f'' occ exp(-B s^2) exp(2 pi i h x), shape (n,)."""
    sites = [site.atom for site in structure[0].all()]
    f_double_prime = {
        z: gemmi.cromer_liberman(z=z, energy=energy_ev)[1] for z in {a.element.atomic_number for a in sites}
    }
    strength = np.array([f_double_prime[atom.element.atomic_number] * atom.occ for atom in sites])
    return _sum_over_atoms(structure, sites, strength, hkl)


def _sum_over_atoms(
    structure: gemmi.Structure, sites: list[gemmi.Atom], strength: FloatArray, hkl: AnyArray
) -> ComplexArray:
    """Sum of strength exp(-B s^2) exp(2 pi i h x) over atoms and their symmetry mates, by rows of indices."""
    b_iso = np.array([atom.b_iso for atom in sites])
    fractional = np.array([structure.cell.fractionalize(atom.pos).tolist() for atom in sites]).reshape(-1, 3)
    operations = structure.find_spacegroup().operations()
    stol2 = structure.cell.calculate_1_d2_array(hkl)[:, None] / 4
    total = np.zeros(len(hkl), dtype=np.complex128)
    for rows in np.array_split(np.arange(len(hkl)), 1 + len(hkl) // 2000):
        weight = strength * np.exp(-b_iso * stol2[rows])
        for operation in operations:
            total[rows] += np.sum(weight * np.exp(2j * np.pi * (hkl[rows] @ _apply(operation, fractional).T)), axis=1)
    return total


def _apply(operation: gemmi.Op, fractional: FloatArray) -> FloatArray:
    moved = fractional @ np.array(operation.rot).T / operation.DEN + np.array(operation.tran) / operation.DEN
    return np.asarray(moved, dtype=np.float64)
