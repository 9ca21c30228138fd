"""Which shots are hits, and which of them single, against what was simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.config.spi import SpiHitsConfig
from exafel.errors import NothingUsableError
from exafel.io.spi_file import SpiShots
from exafel.io.spi_hits import read_hits, read_single_hits
from exafel.parallel.launch import launch
from exafel.steps import simulate_spi, spi_hits
from exafel.steps.base import Hooks

from .test_spi_reconstruct import write_atoms

HITS = SpiHitsConfig(min_photons=60, min_lit_pixels=15)


def globule(path: Path, radius: float) -> Path:
    """Atoms evenly in a ball, as dense as protein (0.05 heavy atoms a cubic angstrom)."""
    rng = np.random.default_rng(4)
    direction = rng.normal(size=(int(0.05 * 4.19 * radius**3), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return write_atoms(path, direction * radius * rng.random((len(direction), 1)) ** (1 / 3))


def simulated(folder: Path, radii: list[float], **changes: object) -> Path:
    structures = [globule(folder.parent / f"{folder.name}{radius:g}.pdb", radius) for radius in radii]
    data: dict[str, object] = {
        "structures": [str(path) for path in structures],
        "n_shots": 300,
        "detector": {"size_px": 32},
        "pulse": {"focus_radius_um": 0.06},
        "noise": {"background_photons": 0.02},
        **changes,
    }
    launch(simulate_spi.run, simulate_spi.request(SimulateSpiConfig.model_validate(data), folder))
    return folder


def test_blanks_singles_and_shots_of_several_are_told_apart(tmp_path: Path) -> None:
    shots = simulated(tmp_path / "shots", [16.0], blank_fraction=0.3, particles_per_shot=0.5)
    one = launch(spi_hits.run, spi_hits.request(HITS, [shots], tmp_path / "one"))
    launch(spi_hits.run, spi_hits.request(HITS, [shots], tmp_path / "two"), ranks=2)
    assert (tmp_path / "one" / "hits.csv").read_text() == (tmp_path / "two" / "hits.csv").read_text()
    true = SpiShots([shots / "rank-00000.h5"]).truth("n_particles")
    assert true is not None
    table = read_hits(tmp_path / "one")
    label = table["label"].to_numpy()
    assert (label[true == 0] == "blank").mean() > 0.99
    assert (label[true == 1] == "single").mean() > 0.9
    assert (label[true > 1] != "single").mean() > 0.8
    assert one.hit_rate == pytest.approx((true > 0).mean(), abs=0.02)
    assert one.size_angstrom == pytest.approx(32.0, rel=0.1)
    assert one.background_photons == pytest.approx(0.02 * 32 * 32, rel=0.1)
    np.testing.assert_array_equal(read_single_hits(tmp_path / "one", 300), table.loc[label == "single", "shot"])


def test_a_tenth_of_another_particle_is_told_to_the_user(tmp_path: Path) -> None:
    shots = simulated(tmp_path / "shots", [20.0, 14.0], fractions=[0.9, 0.1])
    notes: list[str] = []
    summary = launch(
        spi_hits.run, spi_hits.request(HITS, [shots], tmp_path / "hits"), rank0={"hooks": Hooks(note=notes.append)}
    )
    kinds = SpiShots([shots / "rank-00000.h5"]).truth("conformations")
    label = read_hits(tmp_path / "hits")["label"].to_numpy()
    assert (label[kinds == 1] == "single").mean() < 0.15
    assert (label[kinds == 0] == "single").mean() > 0.9
    assert summary.labels["other_size"] + summary.labels["multiple"] > 20
    assert any("are of another size" in note and "left out" in note for note in notes)


def test_no_single_hit_is_an_error_with_the_counts(tmp_path: Path) -> None:
    shots = simulated(tmp_path / "shots", [16.0], blank_fraction=0.99, n_shots=20)
    with pytest.raises(NothingUsableError, match=r"no shot shows a single particle: 20 blank"):
        launch(spi_hits.run, spi_hits.request(HITS, [shots], tmp_path / "hits"))
