"""The picture of a detector: every pixel where the laboratory has it, binned without loss, written as PNG."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.io.geometry import Beam, Detector, Panel
from exafel.monitor.report.mosaic import Mosaic, assemble, resolution_ring, view_along
from exafel.monitor.report.png import SHADES, grey_png
from exafel.monitor.report.shot_picture import grey_levels

BEAM = Beam(1.0)
X, Y = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def square_detector(n: int = 50, *, distance: float = 100.0) -> Detector:
    """One panel of n x n pixels of 0.1 mm, centred on the beam, as seen from the source."""
    half = 0.05 * n
    return Detector((Panel("p", np.array([-half, half, -distance]), X, -Y, (0.1, 0.1), (n, n)),))


def test_a_centred_panel_is_its_own_picture() -> None:
    pixels = np.arange(2500.0).reshape(50, 50)
    picture = assemble([pixels], None, square_detector(), BEAM)
    assert np.array_equal(picture.pixels, pixels)
    assert picture.place(np.array([[0.0, 0.0, -100.0]])) == pytest.approx(np.array([[25.0, 25.0]]))


@given(quarter_turns=st.integers(0, 3), flipped=st.booleans())
def test_turned_panels_show_the_same_picture(quarter_turns: int, flipped: bool) -> None:
    """A panel mounted turned, with its array turned the other way, shows the same scene."""
    scene = np.arange(400.0).reshape(20, 20)
    angle = np.pi / 2 * quarter_turns
    fast = np.array([np.cos(angle), np.sin(angle), 0.0])
    slow = np.array([np.sin(angle), -np.cos(angle), 0.0]) * (-1 if flipped else 1)
    panel = Panel("p", np.array([0.0, 0.0, -100.0]) - fast - slow, fast, slow, (0.1, 0.1), (20, 20))
    centres = panel.pixel_to_lab(np.stack(np.meshgrid(np.arange(20) + 0.5, np.arange(20) + 0.5), -1).reshape(-1, 2))
    columns, rows = np.floor((centres[:, 0] + 1) / 0.1 + 1e-9), np.floor((1 - centres[:, 1]) / 0.1 + 1e-9)
    counts = scene[rows.astype(int), columns.astype(int)].reshape(20, 20)
    assert np.array_equal(assemble([counts], None, Detector((panel,)), BEAM).pixels, scene)


@settings(max_examples=30, deadline=None)
@given(tilt=st.floats(-0.6, 0.6), turn=st.floats(-3.0, 3.0), x=st.integers(2, 57), y=st.integers(2, 37))
def test_marks_lie_on_their_pixels_however_the_panel_stands(tilt: float, turn: float, x: int, y: int) -> None:
    fast = np.array([np.cos(turn), np.sin(turn), 0.0])
    slow = np.array([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    detector = Detector((Panel("p", np.array([2.0, -1.0, -90.0]), fast, slow, (0.1, 0.1), (60, 40)),))
    counts = np.zeros((40, 60))
    counts[y - 1 : y + 2, x - 1 : x + 2] = 100.0
    picture = assemble([counts], None, detector, BEAM)
    column, row = picture.place(detector[0].pixel_to_lab(np.array([[x + 0.5, y + 0.5]])))[0]
    assert picture.pixels[int(row), int(column)] == 100.0


def test_bad_pixels_and_gaps_are_not_known() -> None:
    detector = square_detector(10)
    counts = np.full((10, 10), 5.0)
    counts[2, 3] = -1.0  # below the trusted range
    mask = np.ones((10, 10), dtype=bool)
    mask[7, 1] = False
    picture = assemble([counts], [mask], detector, BEAM)
    assert sorted(zip(*np.nonzero(np.isnan(picture.pixels)), strict=True)) == [(2, 3), (7, 1)]


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), size=st.integers(1, 40))
def test_binning_keeps_the_mean_and_the_places(rows: int, columns: int, size: int) -> None:
    pixels = np.random.default_rng(rows * columns).uniform(0, 10, (rows, columns)).astype(np.float32)
    picture = Mosaic(pixels, -1.0, 2.0, 0.1, view_along(BEAM))
    binned = picture.binned(size)
    factor = round(binned.step_mm / picture.step_mm)
    assert max(binned.pixels.shape) <= size
    assert binned.pixels[0, 0] == pytest.approx(pixels[:factor, :factor].mean(), rel=1e-5)
    lab = np.array([[0.7, 0.4, -100.0]])
    assert binned.place(lab) * factor == pytest.approx(picture.place(lab))


@given(column=st.floats(-50, 150), row=st.floats(-50, 150), size=st.integers(1, 120))
def test_a_window_lies_in_the_picture(column: float, row: float, size: int) -> None:
    picture = Mosaic(np.zeros((80, 100), dtype=np.float32), 0.0, 0.0, 0.1, view_along(BEAM))
    c0, c1, r0, r1 = picture.window(column, row, size)
    assert 0 <= c0 < c1 <= 100
    assert 0 <= r0 < r1 <= 80
    assert (c1 - c0, r1 - r0) == (min(size, 100), min(size, 80))


def test_the_view_is_along_the_beam_whichever_way_it_goes() -> None:
    right, up = view_along(BEAM)
    assert right == pytest.approx(X)
    assert up == pytest.approx(Y)
    right, up = view_along(Beam(1.0, direction=np.array([0.0, 0.0, -1.0])))
    assert right == pytest.approx(X)
    assert up == pytest.approx(-Y), "turned about x: what is seen from the other side"


def test_rings_have_the_radius_of_braggs_law() -> None:
    detector = square_detector(2000, distance=80.0)
    ring = resolution_ring(detector, BEAM, 2.0)
    radius = 80.0 * np.tan(2 * np.arcsin(1.0 / 4.0))
    assert np.hypot(ring[:, 0], ring[:, 1]) == pytest.approx(radius)
    assert np.isnan(resolution_ring(detector, BEAM, 0.4)).all(), "beyond what the wavelength reaches"


@given(rows=st.integers(1, 20), columns=st.integers(1, 20), seed=st.integers(0, 1000))
def test_png_can_be_read_back(rows: int, columns: int, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(-1, SHADES, (rows, columns))
    read = matplotlib.image.imread(io.BytesIO(grey_png(levels)), format="png")
    assert read.shape == (rows, columns, 4)
    known = levels >= 0
    assert np.array_equal(read[..., 3] > 0, known)
    expected = np.rint(np.linspace(250, 0, SHADES))[levels[known]] / 255
    for channel in range(3):
        assert read[..., channel][known] == pytest.approx(expected, abs=1e-6)


def test_shades_darken_with_the_counts() -> None:
    counts = np.array([[np.nan, 0.0, 1.0, 2.0, 1000.0]])
    levels = grey_levels(np.repeat(counts, 10, axis=0))
    assert levels[0, 0] == -1
    assert list(levels[0, 1:]) == sorted(levels[0, 1:])
    assert levels[0, 1] == 0
    assert levels[0, 4] == SHADES - 1
    assert (grey_levels(np.full((3, 3), np.nan)) == -1).all()
