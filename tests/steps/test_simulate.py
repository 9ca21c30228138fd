"""The simulate step: the same shots on any number of ranks, resume, files that our reader and real DIALS take."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from exafel.bragg.detectors import grid_detector
from exafel.config.simulate import SimulateSfxConfig
from exafel.errors import ExafelError, InputError
from exafel.io.events import Stage, read_events
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam
from exafel.io.manifest import read_manifest, verify_containers
from exafel.io.mtz import read_mtz
from exafel.io.nxmx import NXmxSource
from exafel.io.refl import read_refl
from exafel.io.truth import read_truth
from exafel.parallel.launch import launch
from exafel.steps import simulate

DEMO = Path(__file__).resolve().parents[2] / "workflows" / "config" / "demo" / "1a8o.pdb"


def config(**changes: object) -> SimulateSfxConfig:
    small = {
        "structure": str(DEMO),
        "n_shots": 5,
        "no_hit_fraction": 0.3,
        "d_min_angstrom": 4.0,
        "detector": {"type": "grid", "panel_size_px": (128, 96), "panels": (2, 2), "gap_px": 6, "pixel_size_mm": 0.4},
        "crystal": {"mosaic_blocks": 2},
        "pulse": {"channels": 20},
    }
    return SimulateSfxConfig.model_validate({**small, **changes})


def run_dials(dials: Path, folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{dials}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def frames_of(folder: Path) -> list[list[np.ndarray]]:
    sources = [NXmxSource(path) for path in read_manifest(folder).files(folder, "frames")]
    return [source.frame(index) for source in sources for index in range(len(source))]


def test_any_number_of_ranks_makes_the_same_shots(tmp_path: Path) -> None:
    for ranks in (1, 3):
        summary = launch(simulate.run, simulate.request(config(), tmp_path / str(ranks)), ranks=ranks)
        assert summary.n_shots == 5
        verify_containers(tmp_path / str(ranks), read_manifest(tmp_path / str(ranks)))
    one, three = frames_of(tmp_path / "1"), frames_of(tmp_path / "3")
    assert len(one) == len(three) == 5
    for first, second in zip(one, three, strict=True):
        assert len(first) == 4
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)
    truths = [read_truth(tmp_path / name) for name in ("1", "3")]
    assert [shot.shot for shot in truths[1].shots] == [0, 1, 2, 3, 4]
    for first, second in zip(truths[0].shots, truths[1].shots, strict=True):
        assert (first.crystal is None) == (second.crystal is None)
        if first.crystal is not None and second.crystal is not None:
            np.testing.assert_array_equal(first.crystal.real_space, second.crystal.real_space)
    assert sum(shot.crystal is not None for shot in truths[0].shots) == summary.n_hits


def test_our_reader_gets_back_geometry_beam_and_counts(tmp_path: Path) -> None:
    chosen = config(n_shots=2, readout={"gain": 4.0, "read_noise_photons": 0.5, "saturation_photons": 500.0})
    launch(simulate.run, simulate.request(chosen, tmp_path))
    source = NXmxSource(tmp_path / "rank-00000.h5")
    detector = grid_detector(chosen.detector, chosen.readout)
    assert len(source.detector(0)) == 4
    for ours, read in zip(detector.panels, source.detector(0).panels, strict=True):
        np.testing.assert_allclose(read.origin_mm, ours.origin_mm, atol=1e-9)
        np.testing.assert_allclose([read.fast_axis, read.slow_axis], [ours.fast_axis, ours.slow_axis], atol=1e-12)
        assert (read.image_size, read.trusted_range) == (ours.image_size, ours.trusted_range)
        assert read.pixel_size_mm == pytest.approx(ours.pixel_size_mm)
    truth = read_truth(tmp_path)
    for index in range(2):
        beam = source.beam(index)
        shot = truth.find(source.image(index))
        assert shot is not None
        assert beam.spectrum is not None
        assert len(beam.spectrum.weights) == 20
        assert beam.wavelength_angstrom == pytest.approx(shot.wavelength_angstrom)
        assert beam.spectrum.mean_wavelength() == pytest.approx(shot.wavelength_angstrom)
        assert beam.polarization_fraction == pytest.approx(0.999)


def test_a_killed_run_goes_on_with_the_part_that_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate.request(config(), tmp_path / "whole")
    launch(simulate.run, whole)
    request = simulate.request(config(), tmp_path / "killed")
    make = simulate.ShotSimulator.shot
    made: list[int] = []

    def killed_at_the_fourth(self: simulate.ShotSimulator, number: int) -> object:
        made.append(number)
        if len(made) == 4:
            raise KeyboardInterrupt
        return make(self, number)

    monkeypatch.setattr(simulate.ShotSimulator, "shot", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        launch(simulate.run, request)
    assert not (request.out / "manifest.json").exists()
    launch(simulate.run, request)
    assert made == [0, 1, 2, 3, 3, 4]  # config() makes parts of one shot
    for expected, found in zip(frames_of(whole.out), frames_of(request.out), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert not list(request.out.glob(".work/part-*"))
    assert launch(simulate.run, request).up_to_date


def test_fewer_ranks_leave_no_stray_files(tmp_path: Path) -> None:
    request = simulate.request(config(n_shots=2), tmp_path)
    for name in ("rank-00001.h5", "truth-00001.jsonl"):
        (tmp_path / name).write_bytes(b"left by a killed run of two ranks")
    launch(simulate.run, request)
    assert [path.name for path in tmp_path.glob("rank-*.h5")] == ["rank-00000.h5"]
    assert len(read_truth(request.out)) == 2


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.dials
def test_dials_finds_the_spots_of_a_shot_on_256_panels(tmp_path: Path, shared_data: Path, dials: Path) -> None:
    """The geometry of ExaFEL's campaigns: DIALS imports the file and finds most of the spots that were put there."""
    chosen = SimulateSfxConfig.model_validate(
        {
            "structure": str(shared_data / "pdb" / "4bs7.pdb"),
            "n_shots": 1,
            "no_hit_fraction": 0.0,
            "d_min_angstrom": 2.2,
            "detector": {"type": "expt", "path": str(shared_data / "geometry" / "jungfrau16m_like.expt")},
            "crystal": {"mosaic_blocks": 3, "n_cells": (30, 30, 30), "size_um": 5.0, "size_jitter": 0.0},
            "water_thickness_um": 1.0,
        }
    )
    launch(simulate.run, simulate.request(chosen, tmp_path))
    source = NXmxSource(tmp_path / "rank-00000.h5")
    assert len(source.detector(0)) == 256
    strong = sum(int(np.count_nonzero(panel > 50)) for panel in source.frame(0))
    run_dials(dials, tmp_path, "dials.import", "rank-00000.h5")
    run_dials(dials, tmp_path, "dials.find_spots", "imported.expt", "min_spot_size=2", "nproc=1", "d_min=2.2")
    found = read_refl(tmp_path / "strong.refl")
    assert strong > 100
    assert len(found) > 50
    assert len(np.unique(found["panel"])) > 10


def test_events_count_every_shot(tmp_path: Path) -> None:
    summary = launch(simulate.run, simulate.request(config(), tmp_path))
    events = read_events(tmp_path / "events" / "rank-00000.events")
    made = events[events["stage"] == Stage.SIMULATE]
    assert made["shot"].tolist() == [0, 1, 2, 3, 4]
    assert made["count"].sum() == summary.n_hits


def test_the_detector_of_an_experiment_file(tmp_path: Path) -> None:
    detector = grid_detector(config().detector, config().readout)
    path = tmp_path / "detector.expt"
    write_expt(path, ExperimentList([Experiment("x", Beam(1.3), detector, ImageRef(Path("none.h5"), 0))]))
    launch(simulate.run, simulate.request(config(), tmp_path / "grid"))
    from_expt = config(detector={"type": "expt", "path": str(path)})
    launch(simulate.run, simulate.request(from_expt, tmp_path / "expt"))
    for expected, found in zip(frames_of(tmp_path / "grid"), frames_of(tmp_path / "expt"), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_anomalous_scattering_gives_bijvoet_pairs(tmp_path: Path) -> None:
    peak = {"photon_energy_ev": 12700.0, "channels": 20}  # above selenium's K edge
    request = simulate.request(config(n_shots=1, anomalous=True, pulse=peak), tmp_path)
    summary = launch(simulate.run, request)
    true = read_mtz(tmp_path / "truth.mtz")
    assert len(true.hkl) == summary.n_structure_factors
    plus, minus = np.split(true.value, 2)
    np.testing.assert_array_equal(true.hkl[: len(plus)], -true.hkl[len(plus) :])
    assert 0.01 < np.abs(plus - minus).mean() / plus.mean() < 0.2


def test_a_missing_structure_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        launch(simulate.run, simulate.request(config(structure="absent.pdb"), tmp_path))


@pytest.mark.dials
def test_real_dials_imports_it_and_finds_its_spots(tmp_path: Path, dials: Path) -> None:
    detector = {"type": "grid", "panel_size_px": (400, 400)}
    changes = {"n_shots": 3, "no_hit_fraction": 0.0, "d_min_angstrom": 3.0, "detector": detector}
    request = simulate.request(config(**changes), tmp_path / "sim")
    launch(simulate.run, request)
    run_dials(dials, tmp_path, "dials.import", str(request.out / "rank-00000.h5"))
    printed = run_dials(dials, tmp_path, "dials.find_spots", "imported.expt", "nproc=1")
    imported = json.loads((tmp_path / "imported.expt").read_text())
    assert len(imported["experiment"]) == 3
    wavelengths = [beam["wavelength"] for beam in imported["beam"]]
    expected = [shot.wavelength_angstrom for shot in read_truth(request.out).shots]
    assert sorted(wavelengths) == pytest.approx(sorted(expected))
    saved = [line for line in printed.splitlines() if line.startswith("Saved")]
    assert saved
    assert int(saved[0].split()[1]) > 3 * 15


@pytest.mark.gpu
def test_a_gpu_makes_the_same_shots_with_other_noise(tmp_path: Path) -> None:
    from exafel.bragg.gpu import GpuModel

    try:
        GpuModel()
    except ExafelError as error:
        pytest.skip(str(error))
    chosen = {"n_shots": 2, "no_hit_fraction": 0.0, "readout": {"psf": {"fwhm_mm": 0.5}, "read_noise_photons": 0.3}}
    for device in ("cpu", "gpu"):
        launch(simulate.run, simulate.request(config(device=device, **chosen), tmp_path / device))
    for cpu, gpu in zip(frames_of(tmp_path / "cpu"), frames_of(tmp_path / "gpu"), strict=True):
        expected, found = (np.concatenate([panel.ravel() for panel in panels]) for panels in (cpu, gpu))
        assert found.sum() == pytest.approx(expected.sum(), rel=0.01)
        bright = expected > 20
        z = (found[bright] - expected[bright]) / np.sqrt(2.0 * expected[bright])
        assert abs(z.mean()) < 0.2
        assert z.std() == pytest.approx(1, abs=0.2)
