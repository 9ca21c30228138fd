"""Shots of single particles in files: with their truth, on any number of ranks, after a kill."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.errors import ExafelError, InputError
from exafel.io.spi_file import SpiShots
from exafel.parallel.launch import launch
from exafel.steps import simulate_spi

ROOT = Path(__file__).resolve().parents[2]


def config(**changes: object) -> SimulateSpiConfig:
    data: dict[str, object] = {
        "structures": (str(ROOT / "workflows" / "config" / "demo" / "1a8o.pdb"),),
        "n_shots": 7,
        "detector": {"type": "square", "size_px": 12, "side_mm": 100.0},
        "pulse": {"focus_radius_um": 0.02},
        **changes,
    }
    return SimulateSpiConfig.model_validate(data)


def test_ranks_make_the_same_shots_with_their_truth(tmp_path: Path) -> None:
    one = launch(simulate_spi.run, simulate_spi.request(config(), tmp_path / "one"))
    launch(simulate_spi.run, simulate_spi.request(config(), tmp_path / "two"), ranks=2)
    assert one.n_shots == one.n_hits == 7
    assert one.mean_photons > 10
    assert sorted(path.name for path in (tmp_path / "two").glob("*.h5")) == ["rank-00000.h5", "rank-00001.h5"]
    shots = [SpiShots(sorted((tmp_path / name).glob("*.h5"))) for name in ("one", "two")]
    np.testing.assert_array_equal(shots[0].read(range(7)), shots[1].read(range(7)))
    for name in ("orientations", "conformations", "fluences", "n_particles"):
        np.testing.assert_array_equal(shots[0].truth(name), shots[1].truth(name))
    assert shots[1].place(6) == (str(tmp_path / "two" / "rank-00001.h5"), 3)
    assert launch(simulate_spi.run, simulate_spi.request(config(), tmp_path / "one")).up_to_date


def test_the_file_has_spinifels_names(tmp_path: Path) -> None:
    launch(simulate_spi.run, simulate_spi.request(config(blank_fraction=0.5, n_shots=20), tmp_path))
    with h5py.File(tmp_path / "rank-00000.h5") as stream:
        assert stream["intensities"].shape == (20, 1, 12, 12)
        assert stream["pixel_position_reciprocal"].shape == (3, 1, 12, 12)
        assert np.abs(stream["pixel_position_reciprocal"][()]).max() == pytest.approx(8.2e8, rel=0.05)
        assert stream["pixel_index_map"].shape == (1, 12, 12, 2)
        blank = stream["n_particles"][()] == 0
        assert 0 < blank.sum() < 20
        np.testing.assert_array_equal(np.isnan(stream["orientations"][:, 0]), blank)
        assert stream["intensities"][()][blank].sum() == 0


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = simulate_spi.request(config(), tmp_path)

    def killed(*_: object) -> None:
        raise ExafelError("killed")

    monkeypatch.setattr(simulate_spi.StepRun, "finish", killed)
    with pytest.raises(ExafelError, match="killed"):
        launch(simulate_spi.run, request)
    monkeypatch.undo()
    kept = (tmp_path / "rank-00000.h5").stat().st_mtime_ns
    launch(simulate_spi.run, request)
    assert (tmp_path / "rank-00000.h5").stat().st_mtime_ns == kept


def test_damage_costs_its_shot_alone_and_other_geometries_are_refused(tmp_path: Path) -> None:
    launch(simulate_spi.run, simulate_spi.request(config(), tmp_path / "a"))
    other = config(detector={"type": "square", "size_px": 12, "side_mm": 90.0})
    launch(simulate_spi.run, simulate_spi.request(other, tmp_path / "b"))
    files = [tmp_path / name / "rank-00000.h5" for name in "ab"]
    with pytest.raises(InputError, match="another geometry"):
        SpiShots(files)
    with h5py.File(files[0]) as stream:
        chunk = stream["intensities"].id.get_chunk_info(2)
    with files[0].open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    shots = SpiShots(files[:1]).read(range(7))
    np.testing.assert_array_equal(np.isnan(shots).all(axis=1), np.arange(7) == 2)
