"""Structure factors that change with the photon energy, as elements near an absorption edge make them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import gemmi
import numpy as np

from exafel.arrays import AnyArray, ComplexArray, FloatArray, IntArray
from exafel.bragg.structure_factors import index_tables
from exafel.io.geometry import EV_ANGSTROM

SIGNIFICANT_CHANGE_ELECTRONS = 0.02
"""An element whose f' and f'' change by less over a spectrum is taken at the mean energy."""


def dispersion(element: str, energies_ev: FloatArray) -> ComplexArray:
    """Anomalous scattering f' + i f'' of an element, electrons, shape (n,).

    Cromer & Liberman (1970, J. Chem. Phys. 53, 1891) with Kissel and Pratt's correction, as gemmi has it; like all
    calculations for free atoms it has no fine structure at the edge.
    """
    z = gemmi.Element(element).atomic_number
    return np.array([complex(*gemmi.cromer_liberman(z=z, energy=float(energy))) for energy in energies_ev])


def changing_elements(structure: gemmi.Structure, energies_ev: FloatArray) -> tuple[str, ...]:
    """Elements of a structure whose f' or f'' changes over a spectrum by more than `SIGNIFICANT_CHANGE_ELECTRONS`."""
    names = sorted({site.atom.element.name for site in structure[0].all()})
    ends = np.linspace(energies_ev.min(), energies_ev.max(), 21)
    curves = {name: dispersion(name, ends) for name in names}
    return tuple(
        name
        for name, curve in curves.items()
        if max(np.ptp(curve.real), np.ptp(curve.imag)) > SIGNIFICANT_CHANGE_ELECTRONS
    )


@dataclass(frozen=True, eq=False)
class ChannelStructureFactors:
    """Squared amplitudes in every channel, exactly, as a few tables times functions of the energy.

    With ``F(E) = F_0 + sum_e c_e(E) G_e``, where c_e = f' + i f'' less its value at the mean energy and G_e is the sum
    over the element's atoms, |F|^2 is |F_0|^2 plus terms in Re c_e, Im c_e and products of two of them (Karle 1980,
    Int. J. Quantum Chem. 7, 357): for n elements 1 + 2 n + n^2 tables, whatever the number of channels.

    Parameters
    ----------
    first_hkl
        Indices of the tables' first element, shape (3,).
    tables
        Terms by index, shape (k, nh, nk, nl).
    elements
        The elements that change.
    mean_energy_ev
        Energy at which F_0 was computed.
    """

    first_hkl: IntArray
    tables: FloatArray
    elements: tuple[str, ...]
    mean_energy_ev: float

    def bases(self, wavelengths_angstrom: FloatArray) -> FloatArray:
        """By what each table is multiplied in each channel, shape (k, n)."""
        energies = EV_ANGSTROM / np.asarray(wavelengths_angstrom)
        change = [
            dispersion(name, energies) - dispersion(name, np.array([self.mean_energy_ev])) for name in self.elements
        ]
        rows = [np.ones(len(energies))]
        for c in change:
            rows += [c.real, c.imag, np.abs(c) ** 2]
        for one, other in combinations(change, 2):
            product = one * np.conj(other)
            rows += [product.real, product.imag]
        return np.array(rows)

    @staticmethod
    def of(
        hkl: AnyArray,
        F: ComplexArray,
        partial: dict[str, ComplexArray],
        space_group: gemmi.SpaceGroup,
        mean_energy_ev: float,
    ) -> ChannelStructureFactors:
        """Make the tables.

        Parameters
        ----------
        hkl, F
            Indices of both Bijvoet mates (n, 3) and structure factors at the mean energy (n,), electrons.
        partial
            By element, the sum over its atoms of occ exp(-B s^2) exp(2 pi i h x), of the same indices.
        space_group
            Symmetry of the crystal.
        mean_energy_ev
            Energy of `F`.
        """
        rows = [np.abs(F) ** 2]
        for G in partial.values():
            cross = np.conj(F) * G
            rows += [2 * cross.real, -2 * cross.imag, np.abs(G) ** 2]
        for one, other in combinations(partial.values(), 2):
            product = one * np.conj(other)
            rows += [2 * product.real, -2 * product.imag]
        tables, first = index_tables(hkl, np.array(rows), space_group, friedel=False)
        return ChannelStructureFactors(first, tables, tuple(partial), mean_energy_ev)
