"""What the simulated crystals are made of: structure factors, cell and symmetry, from coordinates or from an MTZ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.bragg.anomalous import ChannelStructureFactors, changing_elements
from exafel.bragg.scene import StructureFactors
from exafel.bragg.spectrum import pulse_energies
from exafel.bragg.structure_factors import structure_factor_table
from exafel.config.simulate import SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.crystal import CellParameters, space_group
from exafel.io.geometry import EV_ANGSTROM
from exafel.io.mtz import read_mtz
from exafel.io.structure import element_structure_factors, read_structure, structure_factors


@dataclass(frozen=True, eq=False)
class Sample:
    """A crystal's contents.

    Parameters
    ----------
    structure_factors
        Of all indices, in every channel.
    hkl, amplitude
        Indices (n, 3) and |F| at the mean photon energy (n,), electrons; with `anomalous`, the second half holds the
        Friedel mates of the first.
    cell, space_group
        Mean unit cell and symmetry.
    anomalous
        Whether Bijvoet mates differ.
    """

    structure_factors: StructureFactors
    hkl: AnyArray
    amplitude: FloatArray
    cell: CellParameters
    space_group: gemmi.SpaceGroup
    anomalous: bool


def read_sample(config: SimulateSfxConfig) -> Sample:
    """Read the structure of a simulation: PDB, mmCIF, or MTZ.

    Raises
    ------
    InputError
        The file cannot be used, or has no reflections to the resolution asked for.
    """
    path = Path(config.structure)
    return _from_mtz(path, config) if path.suffix.lower() == ".mtz" else _from_coordinates(path, config)


def _from_coordinates(path: Path, config: SimulateSfxConfig) -> Sample:
    structure = read_structure(path)
    group, cell = structure.find_spacegroup(), structure.cell.parameters
    energy = config.pulse.photon_energy_ev
    hkl, F = structure_factors(path, config.d_min_angstrom, EV_ANGSTROM / energy if config.anomalous else None)
    factors: StructureFactors
    elements = changing_elements(structure, pulse_energies(config.pulse)) if config.anomalous else ()
    if elements:
        partial = {name: element_structure_factors(path, name, hkl) for name in elements}
        factors = ChannelStructureFactors.of(hkl, F, partial, group, energy)
    else:
        factors = structure_factor_table(hkl, np.abs(F), group, anomalous=config.anomalous)
    return Sample(factors, hkl, np.abs(F), cell, group, config.anomalous)


def _from_mtz(path: Path, config: SimulateSfxConfig) -> Sample:
    data = read_mtz(path, config.structure_column)
    amplitude = data.value if data.amplitude else np.sqrt(np.maximum(data.value, 0.0))
    near = gemmi.UnitCell(*data.cell).calculate_d_array(data.hkl) >= config.d_min_angstrom
    hkl, amplitude = data.hkl[near], amplitude[near]
    if not len(hkl):
        raise InputError(f"no reflections to {config.d_min_angstrom:g} A", where=path)
    group = space_group(data.space_group)
    alone, centric = _without_mate(hkl, group)
    if np.all(alone | centric):
        return Sample(structure_factor_table(hkl, amplitude, group), hkl, amplitude, data.cell, group, anomalous=False)
    # A mate that was not measured is taken to be like the other; centric reflections are their own.
    hkl, amplitude = np.concatenate([hkl, -hkl[alone]]), np.concatenate([amplitude, amplitude[alone]])
    hkl, amplitude = _in_pairs(hkl, amplitude)
    table = structure_factor_table(hkl, amplitude, group, anomalous=True)
    return Sample(table, hkl, amplitude, data.cell, group, anomalous=True)


def _codes(hkl: AnyArray) -> AnyArray:
    """One integer for each index, the same order as that of (h, k, l)."""
    shifted = np.asarray(hkl, dtype=np.int64) + 2**15
    return np.asarray((shifted[:, 0] * 2**16 + shifted[:, 1]) * 2**16 + shifted[:, 2])


def _without_mate(hkl: AnyArray, group: gemmi.SpaceGroup) -> tuple[BoolArray, BoolArray]:
    """Whether no equivalent of an index's Friedel mate is in the list, and whether it is its own mate; shape (n,)."""
    rotations = [np.array(op.rot) // op.DEN for op in group.operations().sym_ops]
    equivalents = np.array([_codes(np.asarray(hkl, dtype=np.int64) @ rotation) for rotation in rotations])
    mates = _codes(-np.asarray(hkl))
    return ~np.isin(mates, equivalents.ravel()), np.any(equivalents == mates, axis=0)


def _in_pairs(hkl: AnyArray, amplitude: FloatArray) -> tuple[AnyArray, FloatArray]:
    """Order indices so that the second half holds the Friedel mates of the first; a missing one is made."""
    codes, row = np.unique(_codes(hkl), return_index=True)
    plus = hkl[_codes(hkl) > _codes(-hkl)]
    plus = np.unique(np.concatenate([plus, -hkl[_codes(hkl) < _codes(-hkl)]]), axis=0)
    pairs = np.concatenate([plus, -plus])
    place = np.minimum(np.searchsorted(codes, _codes(pairs)), len(codes) - 1)
    found = codes[place] == _codes(pairs)
    value = np.where(found, amplitude[row[place]], np.nan)
    mate = np.concatenate([value[len(plus) :], value[: len(plus)]])
    return pairs, np.where(found, value, mate)
