"""Indexing without a cell: made spots of known lattices, spots of none, and the real shots."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from exafel.config.indexing import IndexingConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.crystal import space_group
from exafel.io.frames import open_frames
from exafel.stills.bravais import lattice_symbol
from exafel.stills.indexing import index_shot
from exafel.stills.lattice_vectors import find_lattice_vectors
from exafel.stills.misorientation import misorientation_deg
from exafel.stills.reader import ShotReader
from exafel.stills.spotfinding import find_spots

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "config" / "examples"
CRYSTALS = {
    "P 1": (45.0, 52.0, 61.0, 81.0, 95.0, 104.0),
    "P 1 21 1": (42.0, 61.0, 55.0, 90.0, 103.0, 90.0),
    "C 2 2 21": (52.0, 95.0, 66.0, 90.0, 90.0, 90.0),
    "P 21 21 21": (41.0, 53.0, 77.0, 90.0, 90.0, 90.0),
    "P 43 21 2": (79.0, 79.0, 38.0, 90.0, 90.0, 90.0),
    "P 61 2 2": (93.0, 93.0, 130.0, 90.0, 90.0, 120.0),
    "I 2 3": (78.0, 78.0, 78.0, 90.0, 90.0, 90.0),
}


@pytest.mark.parametrize("name", list(CRYSTALS))
def test_made_lattices_are_found_with_their_symmetry(synthetic: SimpleNamespace, name: str) -> None:
    rng = np.random.default_rng(3)
    group = space_group(name)
    found = 0
    for _ in range(3):
        A = synthetic.setting(CRYSTALS[name], rng)
        shot = synthetic.shot([A], rng, n_foreign=15, hall=str(group.hall), sigma_rlp=5e-4)
        lattices = index_shot(shot.spots, shot.detector, shot.beam, IndexingConfig())
        if not lattices or lattice_symbol(lattices[0].crystal.space_group) != lattice_symbol(group):
            continue
        crystal = lattices[0].crystal
        assert sorted(crystal.cell[:3]) == pytest.approx(sorted(CRYSTALS[name][:3]), rel=3e-3)
        if name in ("P 43 21 2", "P 61 2 2", "I 2 3"):  # the axes of the others may be called otherwise
            assert misorientation_deg(crystal.A, A, crystal.space_group, equivalence="lattice") < 0.05
        found += 1
    assert found >= (2 if name.startswith("P 1") else 3)  # axes of low symmetry can look right by chance


def test_a_known_space_group_chooses_the_lattice(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(5)
    A = synthetic.setting(CRYSTALS["P 43 21 2"], rng)
    shot = synthetic.shot([A], rng, hall=str(space_group("P 43 21 2").hall))
    right = index_shot(shot.spots, shot.detector, shot.beam, IndexingConfig(space_group="P43212"))
    assert str(right[0].crystal.space_group.hm) == "P 43 21 2"
    assert right[0].crystal.cell == pytest.approx(CRYSTALS["P 43 21 2"], rel=1e-3)
    assert index_shot(shot.spots, shot.detector, shot.beam, IndexingConfig(space_group="P6122")) == []
    lower = index_shot(shot.spots, shot.detector, shot.beam, IndexingConfig(space_group="P212121"))
    assert sorted(lower[0].crystal.cell[:3]) == pytest.approx(sorted(CRYSTALS["P 43 21 2"][:3]), rel=5e-3)


def test_the_second_lattice_is_found_with_the_cell_of_the_first(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(8)
    hall = str(space_group("P 43 21 2").hall)
    true = [synthetic.setting(CRYSTALS["P 43 21 2"], rng) for _ in range(2)]
    shot = synthetic.shot(true, rng, hall=hall)
    lattices = index_shot(shot.spots, shot.detector, shot.beam, IndexingConfig(max_lattices=3))
    assert len(lattices) == 2
    for A in true:
        angles = [misorientation_deg(item.crystal.A, A, space_group("P422")) for item in lattices]
        assert min(angles) < 0.05


def test_spots_of_no_lattice_are_not_indexed(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(9)
    config = IndexingConfig(max_cell_angstrom=150.0)
    for n in (40, 90, 160):
        shot = synthetic.shot([], rng, n_foreign=n)
        assert index_shot(shot.spots, shot.detector, shot.beam, config) == []


def test_vectors_are_those_of_the_lattice() -> None:
    rng = np.random.default_rng(2)
    basis = np.array([[40.0, 0, 0], [3, 52, 0], [5, -8, 61]])
    hkl = rng.integers(-12, 13, size=(150, 3))
    rlp = hkl @ np.linalg.inv(basis).T
    rlp = rlp[(np.linalg.norm(rlp, axis=1) < 0.3) & hkl.any(axis=1)] + 2e-4 * rng.normal(size=(1, 3))
    vectors, scores = find_lattice_vectors(rlp, 100.0, 12)
    index = vectors @ np.linalg.inv(basis)
    np.testing.assert_allclose(index, np.rint(index), atol=0.03)
    assert (np.diff(scores) <= 0).all()
    assert scores[0] > 0.97 * len(rlp)
    assert len(np.unique(np.abs(np.rint(index)), axis=0)) >= 6


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "images", "cell", "symbol", "n_indexed"),
    [
        ("cspad_thermolysin", "cspad_thermolysin", (93.4, 93.4, 131.1), "hP", 4),
        ("thaumatin_pilatus", "thaumatin_grid", (58.4, 58.4, 152.3), "tP", 5),
        ("lysozyme_stills", "lysozyme_stills/lysozyme_stills.h5", (79.1, 79.1, 38.4), "tP", 8),
    ],
)
def test_real_shots_index_without_a_cell(
    shared_data: Path, example: str, images: str, cell: tuple[float, ...], symbol: str, n_indexed: int
) -> None:
    config = load_workflow_config(EXAMPLES / f"{example}.yaml").stills
    reader = ShotReader(open_frames([shared_data / images]), config.geometry)
    free = config.indexing.model_copy(update={"unit_cell": None, "space_group": None})
    crystals = []
    for number in range(min(len(reader), n_indexed)):
        shot = reader.read(number)
        spots = find_spots(shot.frames, shot.masks, shot.detector, shot.beam, config.spotfinding)
        if len(spots) >= config.spotfinding.min_spots:
            crystals += [lattice.crystal for lattice in index_shot(spots, shot.detector, shot.beam, free)]
    assert len(crystals) == n_indexed
    symbols = Counter(lattice_symbol(crystal.space_group) for crystal in crystals)
    assert symbols[symbol] >= 0.75 * n_indexed, json.dumps(symbols)
    median = np.median([item.cell[:3] for item in crystals if lattice_symbol(item.space_group) == symbol], axis=0)
    np.testing.assert_allclose(median, cell, rtol=2.5e-3)
