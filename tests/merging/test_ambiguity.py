"""Indexing ambiguity: operators, the choice against a reference, and Brehm and Diederichs' without one."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.config.scaling import BrehmDiederichsConfig
from exafel.merging.ambiguity import Ambiguity, reindex, reindexing_operators
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.brehm import SampledLattice, resolve
from exafel.merging.scaling import Reference

NOTHING = Reference.of(np.zeros(0, dtype=np.int64), np.zeros(0))
CUBIC, HEXAGONAL = (70.0, 70, 70, 90, 90, 90), (60.0, 60, 90, 90, 90, 120)


@pytest.mark.parametrize(
    ("group", "cell", "n"),
    [
        ("P 63", HEXAGONAL, 2),
        ("P 63 2 2", HEXAGONAL, 1),
        ("P 31", HEXAGONAL, 4),
        ("P 31 2 1", HEXAGONAL, 2),
        ("P 41", (60.0, 60, 90, 90, 90, 90), 2),
        ("P 43 21 2", (60.0, 60, 90, 90, 90, 90), 1),
        ("P 21 3", CUBIC, 2),
        ("P 21 21 21", (60.0, 60, 90, 90, 90, 90), 2),
        ("P 21 21 21", (60.0, 75, 90, 90, 90, 90), 1),
        ("P 1 21 1", (60.0, 75, 90, 90, 90, 90), 2),
        ("R 3 :H", (60.0, 60, 90, 90, 90, 120), 2),
    ],
)
def test_operators_are_as_many_as_there_are_indexings(group: str, cell: tuple[float, ...], n: int) -> None:
    space_group = gemmi.SpaceGroup(group)
    operators = reindexing_operators(space_group, gemmi.UnitCell(*cell), 3.0)
    assert len(operators) == n
    assert np.array_equal(operators[0], np.eye(3))
    assert all(round(np.linalg.det(operator)) == 1 for operator in operators)
    hkl = np.random.default_rng(1).integers(-9, 10, (50, 3)) * 6  # of any centring
    before = resolution(hkl, gemmi.UnitCell(*cell))
    for operator in operators:
        np.testing.assert_allclose(resolution(reindex(hkl, operator), gemmi.UnitCell(*cell)), before, rtol=1e-9)


def test_thirds_of_a_nearly_cubic_rhombohedral_lattice_make_whole_indices() -> None:
    group, cell = gemmi.SpaceGroup("R 3 :H"), gemmi.UnitCell(60, 60, 60 * 6**0.5, 90, 90, 120)
    operators = reindexing_operators(group, cell, 1.5)
    assert len(operators) == 8
    assert not np.array_equal(operators, np.rint(operators))
    hkl = np.random.default_rng(1).integers(-9, 10, (300, 3))
    allowed = hkl[(-hkl[:, 0] + hkl[:, 1] + hkl[:, 2]) % 3 == 0]
    for operator in operators:
        np.testing.assert_allclose(allowed @ operator, reindex(allowed, operator), atol=1e-9)
        np.testing.assert_allclose(resolution(reindex(allowed, operator), cell), resolution(allowed, cell), rtol=1e-9)
    labels = [Ambiguity(operators, AsymmetricUnit(group, merge_anomalous=True), NOTHING).label(n) for n in range(8)]
    assert len(set(labels)) == 8
    assert any("1/3*" in label for label in labels)


class Case:
    """Lattices of a crystal, each in an indexing of its own, with partialities and noise like those of stills."""

    def __init__(self, group: str, cell: tuple[float, ...], n_lattices: int, seed: int, per_lattice: int = 250) -> None:
        rng = np.random.default_rng(seed)
        self.group, self.cell = gemmi.SpaceGroup(group), gemmi.UnitCell(*cell)
        self.asu = AsymmetricUnit(self.group, merge_anomalous=True)
        self.operators = reindexing_operators(self.group, self.cell, 3.0)
        unique = gemmi.make_miller_array(self.cell, self.group, 4.0)
        self.true = Reference.of(self.asu.keys(unique), rng.exponential(size=len(unique)))
        self.indexed = rng.integers(len(self.operators), size=n_lattices)
        inverse = [np.round(np.linalg.inv(operator)).astype(int) for operator in self.operators]
        self.lattices = []
        for number, place in enumerate(self.indexed):
            hkl = unique[rng.choice(len(unique), min(per_lattice, len(unique)), replace=False)]
            partiality = rng.uniform(0.1, 1.0, len(hkl))
            intensity = 100.0 * self.true.look_up(self.asu.keys(hkl)) * partiality + rng.normal(0, 10.0, len(hkl))
            found = hkl @ inverse[place]  # what reindexing by operator `place` undoes
            self.lattices.append(SampledLattice((number, 0), found, intensity, resolution(found, self.cell)))

    def right(self, chosen: np.ndarray) -> float:
        """Share of the lattices whose indexing agrees, whichever of them is called the first."""
        general = np.array([[5, 17, 41]])
        inverse = [np.round(np.linalg.inv(operator)).astype(int) for operator in self.operators]
        key = [
            int(self.asu.keys(general @ inverse[place] @ self.operators[pick])[0])
            for place, pick in zip(self.indexed, chosen, strict=True)
        ]
        return max(key.count(value) for value in set(key)) / len(key)


def test_each_lattice_finds_its_indexing_against_a_reference() -> None:
    case = Case("P 63", HEXAGONAL, 60, 1)
    ambiguity = Ambiguity(case.operators, case.asu, case.true)
    assert ambiguity.label(0) == "h,k,l"
    assert ambiguity.label(1) in {"k,h,-l", "-h-k,k,-l", "h,-h-k,-l", "-k,-h,-l", "h+k,-k,-l", "-h,h+k,-l"}
    chosen = np.array([ambiguity.choose(item.hkl, item.intensity) for item in case.lattices])
    assert chosen.tolist() == case.indexed.tolist()


def test_a_lattice_that_shares_nothing_with_the_reference_stays_as_it_is() -> None:
    case = Case("P 63", HEXAGONAL, 1, 1)
    ambiguity = Ambiguity(case.operators, case.asu, Reference.of(np.array([2]), np.array([1.0])))
    assert ambiguity.choose(case.lattices[0].hkl, case.lattices[0].intensity) == 0


@pytest.mark.parametrize(("group", "cell"), [("P 63", HEXAGONAL), ("P 31", HEXAGONAL), ("P 21 3", CUBIC)])
def test_lattices_find_indexings_that_agree_without_a_reference(group: str, cell: tuple[float, ...]) -> None:
    case = Case(group, cell, 120, 3)
    chosen, reference = resolve(case.lattices, case.operators, case.asu, BrehmDiederichsConfig())
    assert case.right(chosen) == 1.0
    assert np.count_nonzero(chosen == 0) >= len(chosen) / len(case.operators)
    again, _ = resolve(case.lattices, case.operators, case.asu, BrehmDiederichsConfig())
    assert again.tolist() == chosen.tolist()
    ambiguity = Ambiguity(case.operators, case.asu, reference)
    others = [ambiguity.choose(item.hkl, item.intensity) for item in case.lattices]
    assert others == chosen.tolist()
