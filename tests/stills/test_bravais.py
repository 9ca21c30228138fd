"""Bravais lattices and conventional cells of primitive bases, against the cells that these were made from."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exafel.io.crystal import cell_from_basis, orthogonalization, space_group
from exafel.stills.bravais import bravais_settings, lattice_symbol, reduce_basis
from exafel.stills.cell_symmetry import centring_vectors, invariant_metrics, reciprocal_metric, symmetrized

CELLS = {
    "aP": (40, 50, 60, 80, 95, 105),
    "mP": (40, 55, 62, 90, 105, 90),
    "mC": (80, 55, 62, 90, 105, 90),
    "oP": (40, 50, 60, 90, 90, 90),
    "oC": (40, 90, 60, 90, 90, 90),
    "oI": (40, 50, 66, 90, 90, 90),
    "oF": (80, 100, 130, 90, 90, 90),
    "tP": (79, 79, 38, 90, 90, 90),
    "tI": (60, 60, 150, 90, 90, 90),
    "hP": (93, 93, 130, 90, 90, 120),
    "hR": (80, 80, 140, 90, 90, 120),
    "cP": (60, 60, 60, 90, 90, 90),
    "cI": (90, 90, 90, 90, 90, 90),
    "cF": (100, 100, 100, 90, 90, 90),
}
CENTRING = {"P": "P 1", "C": "C 1 2 1", "I": "I 2 2 2", "F": "F 2 2 2", "R": "R 3:H"}


def primitive_basis(name: str, rng: np.random.Generator, strain: float = 0.0) -> np.ndarray:
    """Any three lattice vectors that span the lattice, in any orientation, with a random strain."""
    conventional = orthogonalization(CELLS[name]).T
    centring = centring_vectors(str(space_group(CENTRING[name[1]]).hall))
    fractions = np.concatenate([np.zeros((1, 3)), centring])
    volume = np.linalg.det(conventional) / len(fractions)
    while True:
        rows = rng.integers(-2, 3, size=(3, 3)) + fractions[rng.integers(0, len(fractions), 3)]
        basis = rows @ conventional
        if abs(abs(np.linalg.det(basis)) / volume - 1) < 1e-6:
            break
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    return basis @ turn.T @ (np.eye(3) + strain * rng.normal(size=(3, 3)))


@pytest.mark.parametrize("name", list(CELLS))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), strain=st.sampled_from([0.0, 0.001, 0.002]))
def test_the_lattice_and_its_cell_are_found_from_any_basis(name: str, seed: int, strain: float) -> None:
    basis = primitive_basis(name, np.random.default_rng(seed), strain)
    reduced = reduce_basis(basis)
    change = np.linalg.solve(basis.T, reduced.T)
    np.testing.assert_allclose(change, np.rint(change), atol=1e-6)
    assert abs(np.linalg.det(change)) == pytest.approx(1)
    best = bravais_settings(reduced, 1.5)[0]
    assert best.lattice == name
    cell = cell_from_basis(best.transform @ reduced)
    assert np.linalg.det(best.transform @ reduced) > 0
    if name == "aP":
        niggli = gemmi.GruberVector(gemmi.UnitCell(*CELLS[name]), "P")
        niggli.niggli_reduce()
        np.testing.assert_allclose(cell, niggli.cell_parameters(), rtol=0.02)
    else:
        np.testing.assert_allclose(sorted(cell[:3]), sorted(CELLS[name][:3]), rtol=0.012)
        np.testing.assert_allclose(sorted(cell[3:]), sorted(CELLS[name][3:]), atol=1.2)
    assert strain or best.obliquity_deg < 1e-3


@pytest.mark.parametrize("name", list(CELLS))
def test_every_setting_is_the_same_lattice_with_its_own_symmetry(name: str) -> None:
    reduced = reduce_basis(primitive_basis(name, np.random.default_rng(1)))
    for setting in bravais_settings(reduced, 2.5):
        conventional = setting.transform @ reduced
        volume = np.linalg.det(conventional) / np.linalg.det(reduced)
        assert volume == pytest.approx(1 + len(centring_vectors(setting.hall)))
        points = np.concatenate([np.eye(3), centring_vectors(setting.hall)]) @ setting.transform
        np.testing.assert_allclose(points, np.rint(points), atol=1e-6)  # the centring vectors are lattice vectors
        metric = reciprocal_metric(np.linalg.inv(conventional))
        change = np.abs(symmetrized(metric, setting.hall) - metric).max() / np.abs(metric).max()
        assert change < (1e-9 if setting.obliquity_deg < 1e-3 else 0.1)
        assert len(invariant_metrics(setting.hall)) == {1: 6, 2: 4, 4: 3, 6: 2, 8: 2, 12: 2, 24: 1}[setting.order]


def test_no_lattice_beyond_the_tolerance() -> None:
    nearly = orthogonalization((40, 40.9, 60, 90, 90, 90.8)).T
    assert {item.lattice for item in bravais_settings(reduce_basis(nearly), 0.3)} == {"aP", "mP"}
    assert bravais_settings(reduce_basis(nearly), 2.5)[0].lattice == "tP"


@pytest.mark.parametrize(
    ("group", "symbol"),
    [("P43212", "tP"), ("P6122", "hP"), ("R3:H", "hR"), ("P1", "aP"), ("C121", "mC"), ("A121", "mC"),
     ("F222", "oF"), ("I4132", "cI"), ("P3121", "hP"), ("P1211", "mP")],
)  # fmt: skip
def test_lattice_of_a_space_group(group: str, symbol: str) -> None:
    assert lattice_symbol(space_group(group)) == symbol
