"""The step that refines the detector: from stills with a wrong geometry to stills with a right one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exafel.cli.main import run as run_cli
from exafel.config.base import validate
from exafel.config.refine_detector import RefineDetectorConfig
from exafel.config.stills import StillsConfig
from exafel.errors import InputError
from exafel.io.experiment import ExperimentList
from exafel.io.expt import read_expt, write_expt
from exafel.io.nxmx import NXmxSource
from exafel.parallel.comm import SerialComm
from exafel.parallel.launch import launch
from exafel.steps import refine_detector, stills
from exafel.stills.reader import move_to_distance

CELL = [40, 50, 60, 90, 90, 90]


def process(images: Path, out: Path, **geometry: object) -> stills.StillsSummary:
    data = {"indexing": {"unit_cell": CELL, "space_group": "P222"}, "geometry": geometry, "integration": {"d_min": 1.9}}
    return stills.run(stills.request(validate(StillsConfig, data), [images], out), SerialComm())


@pytest.fixture(scope="module")
def wrong_geometry(still_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of stills with a detector 0.6 mm too far away, and 0.2 mm aside."""
    folder = tmp_path_factory.mktemp("wrong")
    true = NXmxSource(still_images).detector(0)
    moved = move_to_distance(true, abs(true[0].origin_mm[2]) + 0.6)
    panels = tuple(replace(panel, origin_mm=panel.origin_mm + np.array([0.2, 0, 0])) for panel in moved.panels)
    experiments = read_geometry(still_images, folder)
    experiments.experiments[0] = replace(experiments[0], detector=replace(moved, panels=panels))
    write_expt(folder / "wrong.expt", experiments)
    process(still_images, folder / "stills", reference=str(folder / "wrong.expt"))
    return folder


def read_geometry(images: Path, folder: Path) -> ExperimentList:
    """Experiments of the images as the stills step writes them."""
    process(images, folder / "first")
    return read_expt(next(iter(sorted((folder / "first").glob("rank-*.expt")))))


def test_the_true_geometry_comes_back_and_serves_the_next_run(
    still_images: Path, wrong_geometry: Path, tmp_path: Path
) -> None:
    request = refine_detector.request(RefineDetectorConfig(), [wrong_geometry / "stills"], tmp_path / "refined")
    summary = refine_detector.run(request, SerialComm())
    assert summary.n_lattices == 5
    assert summary.rmsd_after_px < 0.7 * summary.rmsd_before_px
    true = NXmxSource(still_images).detector(0)[0]
    found = read_expt(tmp_path / "refined" / "refined.expt")[0].detector[0]
    middle = np.array([[350.0, 350.0]])
    error = found.pixel_to_lab(middle)[0] - true.pixel_to_lab(middle)[0]
    assert np.abs(error[:2]).max() < 0.02
    assert abs(error[2]) < 0.2  # five shots
    again = process(still_images, tmp_path / "again", reference=str(tmp_path / "refined" / "refined.expt"))
    assert again.n_integrated == 5
    assert again.cell_median[:3] == pytest.approx(CELL[:3], rel=2.5e-3)
    shifts = json.loads((tmp_path / "refined" / "shifts.json").read_text())["panels"]
    assert shifts[0]["shift_mm"][0] == pytest.approx(-0.2, abs=0.02)
    assert refine_detector.run(request, SerialComm()).up_to_date


def test_ranks_change_nothing(wrong_geometry: Path, tmp_path: Path) -> None:
    texts = []
    for ranks in (1, 2):
        request = refine_detector.request(
            RefineDetectorConfig(max_lattices=4), [wrong_geometry / "stills"], tmp_path / str(ranks)
        )
        assert launch(refine_detector.run, request, ranks=ranks).n_lattices == 4
        texts.append((tmp_path / str(ranks) / "refined.expt").read_bytes())
    assert texts[0] == texts[1]


def test_the_command(wrong_geometry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["refine-detector", "-i", str(wrong_geometry / "stills"), "-o", str(tmp_path / "out"), "--json"]
    assert run_cli(arguments) == 0
    assert json.loads(capsys.readouterr().out)["n_lattices"] == 5


def test_what_cannot_be_refined_is_named(wrong_geometry: Path, tmp_path: Path) -> None:
    config = RefineDetectorConfig()
    with pytest.raises(InputError, match="no manifest"):
        refine_detector.run(refine_detector.request(config, [tmp_path], tmp_path / "a"), SerialComm())
    both = [wrong_geometry / "first", wrong_geometry / "stills"]
    with pytest.raises(InputError, match="another detector geometry"):
        refine_detector.run(refine_detector.request(config, both, tmp_path / "b"), SerialComm())
    with pytest.raises(InputError):
        refine_detector.request(config, [tmp_path / "missing"], tmp_path / "c")
