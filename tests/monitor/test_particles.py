"""The report's sections of single particles, from folders as the steps leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exafel.config.report import ReportConfig
from exafel.io.files import write_json
from exafel.io.manifest import describe_container
from exafel.io.mrc import read_mrc, write_mrc
from exafel.monitor.report.build import build_sections
from exafel.monitor.report.page import render_page
from exafel.monitor.report.trial import find_steps, read_trial

S = [0.01, 0.02, 0.03]


@pytest.fixture
def trial(results_maker: Any, tmp_path: Path) -> Path:
    maker = results_maker(tmp_path / "blobs" / "000")
    folder = maker.trial / "spi_reconstruct"
    folder.mkdir(parents=True)
    density = np.random.default_rng(1).random((9, 9, 9))
    write_mrc(folder / "class0_density.mrc", density, 5.0)
    curve = {"s": S, "value": [1.0, 0.8, None]}
    write_json(folder / "curves.json", {"classes": [{"class": 0, "fsc_half": curve, "prtf": curve}]})
    rows = "\n".join(f"{i},f,{i},4,1,0,0,0,0,0.9,1.{i},0" for i in range(5))
    (folder / "images.csv").write_text(f"shot,file,index,generation,qw,qx,qy,qz,class,score,scale,half\n{rows}\n")
    kinds = {"class0_density.mrc": "density", "curves.json": "curves", "images.csv": "images"}
    containers = [describe_container(folder / name, kind, folder=folder) for name, kind in kinds.items()]
    generation = {"generation": 0, "d_angstrom": 14.0, "half_d_angstrom": None, "median_move_deg": 90.0}
    classes = {"number": 0, "fraction": 1.0, "r_factor": 0.2, "prtf_angstrom": 12.0}
    classes |= {"fsc_half_angstrom": 14.0, "fsc_half_0143_angstrom": None}
    summary = {
        "generations": [generation, {**generation, "generation": 1, "half_d_angstrom": 20.0}],
        "classes": [classes],
    }
    maker.manifest("spi_reconstruct", summary, containers, ranks=1)
    labels = {"single": 5, "multiple": 1, "other_size": 0, "blank": 4, "damaged": 0}
    hits = {"n_shots": 10, "labels": labels, "hit_rate": 0.6, "median_photons": 500.0, "size_angstrom": 40.0}
    maker.manifest("spi_hits", hits, ranks=1)
    truth = {"n": 5, "orientation_median_deg": 2.5, "within_10_deg": 1.0, "class_accuracy": 0.9}
    truth |= {"confusion": [[3, 0], [1, 1]], "densities": [{"conformation": 0, "s": S, "fsc": [1.0, 0.9, 0.3]}]}
    maker.manifest("spi_evaluate", truth, ranks=1)
    return Path(maker.trial)


def test_every_section_is_there_with_its_numbers(trial: Path) -> None:
    read = read_trial(find_steps([trial]))
    sections = {section.key: section for section in build_sections(read, ReportConfig())}
    assert {"spi_hits", "spi_convergence", "spi_resolution", "spi_density", "spi_images"} <= set(sections)
    assert sections["overview"].numbers["absent"] == []
    curves = sections["spi_resolution"].as_json()["figures"]["curves"]
    assert sorted(set(curves["curve"])) == ["halves, class 0", "phase transfer, class 0", "truth, conformation 0"]
    assert curves["value"][:3] == [1.0, 0.8, None]
    views = sections["spi_images"].as_json()["figures"]["views"]
    assert sum(views["images"]) == 5
    page = render_page(read, list(sections.values()), "")
    for words in ("Fourier shell correlation", "slice along x", "projection along z", "Images by true conformation"):
        assert words in page


def test_a_map_that_cannot_be_read_is_said(trial: Path) -> None:
    (trial / "spi_reconstruct" / "class0_density.mrc").write_bytes(b"no map")
    sections = {section.key: section for section in build_sections(read_trial(find_steps([trial])), ReportConfig())}
    assert any("not a map" in note for note in sections["spi_density"].as_json()["notes"])


def test_maps_keep_their_axes_and_voxels(tmp_path: Path) -> None:
    volume = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    write_mrc(tmp_path / "v.mrc", volume, 2.5)
    found, voxel = read_mrc(tmp_path / "v.mrc")
    np.testing.assert_array_equal(found, volume)
    assert voxel == pytest.approx(2.5)
