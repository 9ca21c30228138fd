"""Geometry of every example image agrees with dxtbx to 1e-6 mm."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from exafel.io.frames import open_frames
from exafel.io.geometry import Panel

pytestmark = [pytest.mark.data, pytest.mark.dials, pytest.mark.slow]

IMAGES = {
    "cspad_thermolysin": [0],
    "thaumatin_grid": [0],
    "lysozyme_stills": [0, 3, 47],
}


@pytest.fixture(scope="module")
def answers(ask_dxtbx, shared_data):
    files = {
        str(path): indices
        for folder, indices in IMAGES.items()
        for path in sorted((shared_data / folder).iterdir())
        if path.name.endswith((".cbf", ".bz2", ".h5"))
    }
    assert len(files) == 17
    return ask_dxtbx(images=files)


def assert_panel_agrees(ours: Panel, theirs: dict) -> None:
    for name, value in (("origin", ours.origin_mm), ("fast", ours.fast_axis), ("slow", ours.slow_axis)):
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours.pixel_size_mm, theirs["pixel_size"], rtol=1e-12)
    assert list(ours.image_size) == theirs["image_size"]
    assert sorted(ours.mask_rectangles) == [tuple(item) for item in theirs["mask"]]
    assert ours.gain == theirs["gain"]
    assert ours.parallax == (theirs["parallax"] is not None)
    if theirs["parallax"]:
        np.testing.assert_allclose([ours.mu_per_mm, ours.thickness_mm], theirs["parallax"], rtol=1e-9)
    np.testing.assert_allclose(ours.pixel_to_lab(np.array(theirs["grid"])), theirs["lab"], rtol=0, atol=1e-6)
    pixels, _ = ours.ray_to_pixel(np.array(theirs["rays"]))
    np.testing.assert_allclose(pixels, theirs["ray_px"], rtol=0, atol=1e-6)


def test_every_image_has_the_geometry_that_dxtbx_gives_it(answers):
    for path, theirs in answers.items():
        source = open_frames([Path(path)])
        assert len(source) == theirs["n"]
        for frame in theirs["frames"]:
            beam, index = source.beam(frame["index"]), frame["index"]
            assert beam.wavelength_angstrom == pytest.approx(frame["beam"]["wavelength"], rel=1e-12)
            np.testing.assert_allclose(beam.direction, frame["beam"]["direction"])
            assert beam.polarization_fraction == frame["beam"]["polarization_fraction"]
            np.testing.assert_allclose(beam.polarization_normal, frame["beam"]["polarization_normal"])
            assert beam.flux == frame["beam"]["flux"]
            panels = source.detector(index).panels
            assert [panel.name for panel in panels] == [panel["name"] for panel in frame["panels"]]
            for ours, panel in zip(panels, frame["panels"], strict=True):
                assert_panel_agrees(ours, panel)


def test_every_pixel_is_the_one_that_dxtbx_reads_and_is_trusted_where_it_trusts_it(answers):
    for path, theirs in answers.items():
        source = open_frames([Path(path)])
        for frame in theirs["frames"]:
            panels = source.detector(frame["index"]).panels
            for panel, data, expected in zip(panels, source.frame(frame["index"]), frame["pixels"], strict=True):
                assert list(data.shape) == expected["shape"]
                assert hashlib.sha256(data.astype("<i4").tobytes()).hexdigest() == expected["sha256"]
                assert panel.trusted_mask(data).sum() == expected["good"]


def test_trusted_ranges_say_the_last_good_values_where_dxtbx_312_says_the_first_bad_ones(answers):
    for path, theirs in answers.items():
        for frame in theirs["frames"]:
            panels = open_frames([Path(path)]).detector(frame["index"]).panels
            for ours, panel in zip(panels, frame["panels"], strict=True):
                low, high = panel["trusted_range"]
                assert ours.trusted_range[0] == low + 1
                # NXmx: saturation_value itself is a good value (NeXus' definition); dxtbx 3.12 drops it
                assert ours.trusted_range[1] == (high if path.endswith(".h5") else high - 1)
