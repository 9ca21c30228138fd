"""Masks that the configuration draws: shapes on panels, the shadow of the beam stop, ranges of resolution."""

from __future__ import annotations

import numpy as np

from exafel.arrays import BoolArray, Float32Array, FloatArray
from exafel.config.untrusted import CircleConfig, RectangleConfig, Shape, UntrustedConfig
from exafel.errors import ConfigError
from exafel.io.geometry import Beam, Detector, Panel
from exafel.stills.ice import ice_rings_inverse_d2
from exafel.stills.pixel_maps import two_sine_theta

_STEPS = 1 << 20  # of 2 sin(theta) from 0 to 2: a step is far below a pixel


def fixed_mask(detector: Detector, beam: Beam, config: UntrustedConfig) -> list[BoolArray]:
    """Good pixels as far as they do not depend on the wavelength, True where good, one array a panel.

    Raises
    ------
    ConfigError
        A shape names a panel that the detector has not.
    """
    for number, shape in enumerate(config.shapes):
        if shape.panel is not None and shape.panel >= len(detector):
            raise ConfigError(
                f"the detector has {len(detector)} panels, counted from 0, and no panel {shape.panel}",
                where=f"stills.untrusted.shapes[{number}].panel",
            )
    masks = []
    for number, panel in enumerate(detector.panels):
        mask = np.ones(panel.shape, dtype=np.bool_)
        if config.border_px:
            inner = np.zeros_like(mask)
            edge = config.border_px
            inner[edge : panel.shape[0] - edge, edge : panel.shape[1] - edge] = True
            mask &= inner
        for shape in config.shapes:
            if shape.panel in (None, number):
                mask &= ~_inside(shape, panel)
        masks.append(mask)
    if config.beam_stop_radius_mm is not None:
        for mask, panel, chord in zip(masks, detector.panels, two_sine_theta(detector, beam), strict=True):
            mask &= chord > _chord_of_radius(panel, config.beam_stop_radius_mm)
    return masks


def resolution_mask(detector: Detector, beam: Beam, config: UntrustedConfig) -> list[BoolArray]:
    """Good pixels as far as the resolution decides, for the wavelength of one shot, one array a panel."""
    bands = _bad_bands(config)
    return [_outside(chord, bands, beam.wavelength_angstrom) for chord in two_sine_theta(detector, beam)]


def _inside(shape: Shape, panel: Panel) -> BoolArray:
    fast, slow = panel.image_size
    if isinstance(shape, RectangleConfig):
        inside = np.zeros(panel.shape, dtype=np.bool_)
        inside[max(shape.slow[0], 0) : max(shape.slow[1], 0), max(shape.fast[0], 0) : max(shape.fast[1], 0)] = True
        return inside
    x, y = np.arange(0.5, fast, dtype=np.float64), np.arange(0.5, slow, dtype=np.float64)[:, None]
    if isinstance(shape, CircleConfig):
        return np.asarray(np.hypot(x - shape.centre_px[0], y - shape.centre_px[1]) <= shape.radius_px)
    return _in_polygon(x, y, np.array(shape.corners_px))


def _in_polygon(x: FloatArray, y: FloatArray, corners: FloatArray) -> BoolArray:
    """Tell which points lie in a polygon: a ray from them crosses its edges an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _chord_of_radius(panel: Panel, radius_mm: float) -> float:
    """2 sin(theta) of a point at a distance from the beam in the plane of a panel that stands across the beam."""
    return float(2.0 * np.sin(0.5 * np.arctan2(radius_mm, abs(panel.distance_mm))))


def _bad_bands(config: UntrustedConfig) -> list[tuple[float, float]]:
    """Ranges of 1/d that are left out, 1/angstrom."""
    bands = [(1.0 / max(pair), 1.0 / min(pair)) for pair in config.resolution_ranges]
    if config.d_max is not None:
        bands.append((-np.inf, 1.0 / config.d_max))
    if config.d_min is not None:
        bands.append((1.0 / config.d_min, np.inf))
    if config.ice_ring_width is not None:
        centre, half = ice_rings_inverse_d2(), config.ice_ring_width / 2
        bands += zip(np.sqrt(np.maximum(centre - half, 0.0)), np.sqrt(centre + half), strict=True)
    return bands


def _outside(chord: Float32Array, bands: list[tuple[float, float]], wavelength_angstrom: float) -> BoolArray:
    """Look every pixel up in a table: its cost does not grow with the number of rings."""
    centre = (np.arange(_STEPS + 1) + 0.5) * (2.0 / _STEPS) / wavelength_angstrom
    good = np.ones(_STEPS + 1, dtype=np.bool_)
    for low, high in bands:
        good &= (centre < low) | (centre > high)
    return np.asarray(good[(chord * np.float32(_STEPS / 2)).astype(np.int32)])
