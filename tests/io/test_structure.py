"""Structure factors from coordinates against direct summation."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.geometry import EV_ANGSTROM
from exafel.io.structure import read_structure, structure_factors

DEMO = Path(__file__).resolve().parents[2] / "workflows" / "config" / "demo" / "1a8o.pdb"


def some_of(n: int, total: int) -> np.ndarray:
    return np.random.default_rng(5).choice(total, n, replace=False)


def test_atoms_agree_with_direct_summation() -> None:
    hkl, F = structure_factors(DEMO, 2.5, solvent=False)
    structure = read_structure(DEMO)
    calculator = gemmi.StructureFactorCalculatorX(structure.cell)
    chosen = some_of(100, len(hkl))
    exact = np.array([calculator.calculate_sf_from_model(structure[0], hkl[i].tolist()) for i in chosen])
    assert np.abs(F[chosen] - exact).max() < 3e-4 * np.abs(F).mean()
    assert structure.cell.calculate_d_array(hkl).min() >= 2.5


def test_solvent_matters_at_low_resolution_only() -> None:
    hkl, wet = structure_factors(DEMO, 2.5)
    _, dry = structure_factors(DEMO, 2.5, solvent=False)
    d = read_structure(DEMO).cell.calculate_d_array(hkl)
    change = np.abs(wet - dry) / np.abs(dry).mean()
    assert change[d > 15].mean() > 0.5
    assert change[d < 3].mean() < 0.05


def test_bijvoet_mates_with_and_without_an_anomalous_scatterer() -> None:
    at_edge = EV_ANGSTROM / 12700.0  # above selenium's K edge: f'' is 3.8 electrons
    hkl, F = structure_factors(DEMO, 3.0, at_edge)
    half = len(hkl) // 2
    np.testing.assert_array_equal(hkl[half:], -hkl[:half])
    plus, minus = np.abs(F[:half]), np.abs(F[half:])
    assert 0.02 < np.abs(plus - minus).mean() / plus.mean() < 0.15
    groups = read_structure(DEMO).find_spacegroup().operations()
    centric = groups.centric_flag_array(hkl[:half])
    np.testing.assert_allclose(plus[centric], minus[centric], rtol=1e-3, atol=0.05)


def test_one_kind_of_atom_has_no_bijvoet_differences(tmp_path: Path) -> None:
    """Friedel's law holds where every atom scatters with the same phase."""
    structure = read_structure(DEMO)
    for site in structure[0].all():
        site.atom.element = gemmi.Element("S")
    path = tmp_path / "sulfur.pdb"
    structure.write_pdb(str(path))
    _, F = structure_factors(path, 4.0, 1.5, solvent=False)
    plus, minus = np.split(np.abs(F), 2)
    np.testing.assert_allclose(plus, minus, rtol=0.01, atol=0.01 * plus.mean())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("HEADER    NOTHING\n", "no atoms"),
        ("ATOM      1  CA  ALA A   1      11.000  12.000  13.000  1.00 10.00           C\n", "unit cell"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "model.pdb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        structure_factors(path, 3.0)
    assert "model.pdb" in str(caught.value)
