"""Masks that the configuration draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.config.base import validate
from exafel.config.stills import GeometryConfig
from exafel.config.untrusted import UntrustedConfig
from exafel.errors import ConfigError
from exafel.io.frames import open_frames
from exafel.io.geometry import Beam, Detector, Panel
from exafel.stills.ice import ice_rings_inverse_d2
from exafel.stills.pixel_maps import two_sine_theta
from exafel.stills.reader import ShotReader
from exafel.stills.untrusted import fixed_mask, resolution_mask


def detector(n_panels: int = 1, size: tuple[int, int] = (80, 60)) -> Detector:
    panels = tuple(
        Panel(
            name=f"p{number}",
            origin_mm=[-4.0 + 9 * number, 3.0, -50.0],
            fast_axis=[1.0, 0.0, 0.0],
            slow_axis=[0.0, -1.0, 0.0],
            pixel_size_mm=(0.1, 0.1),
            image_size=size,
        )
        for number in range(n_panels)
    )
    return Detector(panels)


def config(**parameters: object) -> UntrustedConfig:
    return validate(UntrustedConfig, parameters)


def resolution_of_pixels(panel: Panel, wavelength: float) -> np.ndarray:
    fast, slow = panel.image_size
    x, y = np.meshgrid(np.arange(fast) + 0.5, np.arange(slow) + 0.5)
    lab = panel.pixel_to_lab(np.column_stack([x.ravel(), y.ravel()]))
    q = np.linalg.norm(Beam(wavelength).reciprocal(lab), axis=1)
    return (1.0 / q).reshape(slow, fast)


def test_shapes_cover_the_pixels_whose_centres_they_hold() -> None:
    shapes = (
        {"shape": "rectangle", "fast": (3, 7), "slow": (50, 90)},
        {"shape": "circle", "panel": 1, "centre_px": (20.0, 30.0), "radius_px": 4.2},
        {"shape": "polygon", "panel": 0, "corners_px": ((40, 10), (60, 10), (60, 30), (50, 12.3), (40, 30))},
    )
    first, second = fixed_mask(detector(2), Beam(1.0), config(shapes=shapes))
    y, x = np.mgrid[:60, :80] + 0.5
    rectangle = (x > 3) & (x < 7) & (y > 50)
    np.testing.assert_array_equal(second, ~rectangle & ((x - 20) ** 2 + (y - 30) ** 2 > 4.2**2))
    roof = 12.3 + np.abs(x - 50) * 1.77  # two sides of the notch
    polygon = (x > 40) & (x < 60) & (y > 10) & (y < roof)
    np.testing.assert_array_equal(first, ~rectangle & ~polygon)


@settings(max_examples=40, deadline=None)
@given(st.floats(2, 70), st.floats(2, 50), st.floats(1, 30), st.integers(6, 40))
def test_a_polygon_of_many_corners_is_its_circle(x: float, y: float, radius: float, n: int) -> None:
    angle = 2 * np.pi * np.arange(n) / n
    corners = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    polygon = {"shape": "polygon", "corners_px": corners.tolist()}
    inner = {"shape": "circle", "centre_px": (x, y), "radius_px": radius * np.cos(np.pi / n) - 1e-9}
    outer = {"shape": "circle", "centre_px": (x, y), "radius_px": radius + 1e-9}
    small, drawn, large = (~fixed_mask(detector(), Beam(1.0), config(shapes=(s,)))[0] for s in (inner, polygon, outer))
    assert not (small & ~drawn).any()
    assert not (drawn & ~large).any()


def test_borders_and_the_beam_stop() -> None:
    mask = fixed_mask(detector(), Beam(1.0), config(border_px=3))[0]
    assert mask[3:-3, 3:-3].all()
    assert np.count_nonzero(mask) == 54 * 74
    stop = fixed_mask(detector(), Beam(1.0), config(beam_stop_radius_mm=1.05))[0]
    y, x = np.mgrid[:60, :80] + 0.5
    np.testing.assert_array_equal(stop, np.hypot(x - 40, y - 30) > 10.5)


@pytest.mark.parametrize("wavelength", [0.9, 1.3])
def test_resolution_is_that_of_each_shots_wavelength(wavelength: float) -> None:
    one = detector()
    d = resolution_of_pixels(one[0], wavelength)
    low, middle, next_to_it, high = (float(np.quantile(d, part)) * 1.0001 for part in (0.2, 0.45, 0.5, 0.9))
    wanted = config(d_min=low, d_max=high, resolution_ranges=((next_to_it, middle),))
    mask = resolution_mask(one, Beam(wavelength), wanted)[0]
    expected = (d >= low) & (d <= high) & ~((d >= middle) & (d <= next_to_it))
    assert np.mean(mask == expected) > 0.999  # a table's step may decide about a pixel on the edge
    np.testing.assert_allclose(two_sine_theta(one, Beam(wavelength))[0], wavelength / d, rtol=1e-5)


def test_ice_rings() -> None:
    one = detector(size=(800, 600))
    mask = resolution_mask(one, Beam(1.0), config(ice_ring_width=0.004))[0]
    d = resolution_of_pixels(one[0], 1.0)
    off = np.abs(1 / d**2 - ice_rings_inverse_d2()[:, None, None]).min(axis=0)
    assert np.mean(mask == (off > 0.002)) > 0.998
    assert 0.02 < np.mean(~mask) < 0.5


def test_the_reader_applies_them_and_other_trusted_ranges(still_images: Path) -> None:
    source = open_frames([still_images])
    plain = ShotReader(source, GeometryConfig()).read(0)
    drawn = config(shapes=({"shape": "rectangle", "fast": (0, 50), "slow": (0, 700)},), d_max=8.0, above=100.0)
    reader = ShotReader(source, GeometryConfig(), drawn)
    shot = reader.read(0)
    d = resolution_of_pixels(shot.detector[0], shot.beam.wavelength_angstrom)
    expected = plain.masks[0] & (plain.frames[0] <= 100) & (np.arange(700) >= 50) & (d <= 8.0)
    assert np.mean(shot.masks[0] == expected) > 0.9999
    assert shot.detector[0].trusted_range[1] == 100.0
    assert reader.read(1).detector is shot.detector  # still shared, so maps are made once


def test_what_is_wrong_is_named() -> None:
    shape = {"shape": "circle", "panel": 3, "centre_px": (1, 1), "radius_px": 2}
    with pytest.raises(ConfigError, match="no panel 3"):
        fixed_mask(detector(2), Beam(1.0), config(shapes=(shape,)))
    for wrong in (
        {"d_min": 3, "d_max": 2},
        {"below": 3, "above": 2},
        {"resolution_ranges": ((2, 2),)},
        {"shapes": ({"shape": "square"},)},
        {"shapes": ({"shape": "polygon", "corners_px": ((1, 1),)},)},
    ):
        with pytest.raises(ConfigError):
            config(**wrong)
