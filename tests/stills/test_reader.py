"""Reading shots with corrections: mask, wavelength, distance, reference geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exafel.config.stills import GeometryConfig
from exafel.errors import FrameError, InputError
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.frames import open_frames
from exafel.io.geometry import Beam, Detector, Panel
from exafel.stills.reader import ShotReader, move_to_distance

SHIFT = np.array([0.3, -0.2, 1.0])


def read(images: Path, number: int = 0, **corrections: object) -> tuple[Detector, Beam, np.ndarray]:
    shot = ShotReader(open_frames([images]), GeometryConfig(**corrections)).read(number)
    return shot.detector, shot.beam, shot.masks[0]


def test_without_corrections_shots_are_as_in_the_file(still_images: Path) -> None:
    source = open_frames([still_images])
    detector, beam, mask = read(still_images)
    np.testing.assert_array_equal(detector[0].origin_mm, source.detector(0)[0].origin_mm)
    assert beam.wavelength_angstrom == source.beam(0).wavelength_angstrom
    assert mask.all()


def test_wavelength_and_distance(still_images: Path) -> None:
    detector, beam, _ = read(still_images, wavelength_angstrom=1.25, distance_mm=95.5)
    assert beam.wavelength_angstrom == 1.25
    assert beam.spectrum is None
    np.testing.assert_allclose(detector[0].origin_mm, [-52, 52, -95.5], atol=1e-9)


def test_distance_moves_all_panels_alike() -> None:
    panel = small_panel()
    detector = Detector((panel, replace(panel, name="q", origin_mm=panel.origin_mm + np.array([0.0, 0.0, 2.0]))))
    moved = move_to_distance(detector, 150.0)
    heights = [item.origin_mm[2] for item in moved.panels]
    assert heights == pytest.approx([-151.0, -149.0])


def small_panel() -> Panel:
    return Panel("p", [-1.0, 1.0, -100.0], [1, 0, 0], [0, -1, 0], (0.1, 0.1), (20, 20))


def test_mask_is_added(still_images: Path, tmp_path: Path) -> None:
    good = np.ones((700, 700), dtype=bool)
    good[100:120, 300:310] = False
    np.save(tmp_path / "mask.npy", good)
    _, _, mask = read(still_images, mask=str(tmp_path / "mask.npy"))
    np.testing.assert_array_equal(mask, good)
    np.save(tmp_path / "panels.npy", good[None])
    np.testing.assert_array_equal(read(still_images, mask=str(tmp_path / "panels.npy"))[2], good)


def test_masks_that_are_none(still_images: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.zeros((700, 700)))
    (tmp_path / "text.npy").write_text("not an array")
    for name in ("numbers.npy", "text.npy", "missing.npy"):
        with pytest.raises(InputError, match="mask"):
            read(still_images, mask=str(tmp_path / name))


def test_reference_geometry(still_images: Path, tmp_path: Path) -> None:
    source = open_frames([still_images])
    panel = source.detector(0)[0]
    path = tmp_path / "reference.expt"

    def write(detector: Detector) -> None:
        write_expt(path, ExperimentList([Experiment("", source.beam(0), detector, ImageRef(still_images, 0))]))

    write(Detector((replace(panel, origin_mm=panel.origin_mm + SHIFT),)))
    detector, _, _ = read(still_images, reference=str(path))
    np.testing.assert_allclose(detector[0].origin_mm, panel.origin_mm + SHIFT, atol=1e-9)
    write(Detector((replace(panel, image_size=(600, 700)),)))
    with pytest.raises(FrameError, match="reference"):
        read(still_images, reference=str(path))


def test_shots_share_a_corrected_detector(still_images: Path) -> None:
    reader = ShotReader(open_frames([still_images]), GeometryConfig(distance_mm=91.0))
    assert reader.read(0).detector is reader.read(3).detector
