"""Spot finding: strong pixels by their index of dispersion, joined to spots, filtered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import gemmi
import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.config.spotfinding import SpotFindingConfig
from exafel.errors import FrameError
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.pixels import kernel_pixels

ICE_CELL = (4.498, 4.498, 7.338, 90.0, 90.0, 120.0)
"""Hexagonal ice, P63/mmc; the cell that DIALS' ice-ring filter uses."""

BACKGROUND_MARGIN_PX = 3
"""How far around a spot's bounding box its local background is taken."""


def find_spots(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    detector: Detector,
    beam: Beam,
    config: SpotFindingConfig,
) -> ReflectionTable:
    """Find the spots of one shot.

    Parameters
    ----------
    frames
        Pixels, one array of shape (slow, fast) a panel.
    masks
        True where a pixel is good (see `exafel.stills.masks.good_masks`), one array a panel.

    Returns
    -------
    ReflectionTable
        One row a spot in the order of panels and of the spots' first pixels, with DIALS' columns: ``panel``, ``bbox``,
        ``xyzobs.px.value`` and ``.variance`` (z is 0.5), ``intensity.sum.value`` and ``.variance``, ``flags``, ``id``
        (-1), ``n_signal`` (strong pixels), ``background.mean``, ``d`` (angstrom), and ``moments.px`` (second
        moments xx, xy, yy of the counts about the centroid, px^2).

    Raises
    ------
    FrameError
        More than `max_strong_pixel_fraction` of the pixels are strong.

    Notes
    -----
    Dispersion threshold of Winter et al. (2018), Acta Cryst. D74, 85-97. Spots do not cross panel borders.
    """
    prepared = [kernel_pixels(frame) for frame in frames]
    strong = [
        strong_pixels(frame, mask, config, gain=config.gain * panel.gain)
        for panel, frame, mask in zip(detector.panels, prepared, masks, strict=True)
    ]
    fraction = sum(len(found) for found in strong) / detector.n_pixels
    if fraction > config.max_strong_pixel_fraction:
        raise FrameError(f"{fraction:.0%} of the pixels are strong", hint="check gain, sigma_strong and the mask")
    tables = [
        _panel_spots(number, panel, frame, mask, found, config)
        for number, (panel, frame, mask, found) in enumerate(zip(detector.panels, prepared, masks, strong, strict=True))
        if len(found) >= config.min_spot_size or number == 0
    ]
    spots = ReflectionTable.concatenate(tables)
    spots["d"] = resolution(spots, detector, beam)
    return spots.select(_resolution_filter(spots["d"], config))


def strong_pixels(image: AnyArray, mask: BoolArray, config: SpotFindingConfig, *, gain: float) -> AnyArray:
    """Flat numbers of the strong pixels of one panel, ascending, shape (n,).

    A good pixel of value I in a window with N good pixels of mean m and variance v is strong where
    v/m > gain (1 + sigma_background sqrt(2/(N-1))), I > m + sigma_strong sqrt(gain m) and I > global_threshold.
    """
    return _kernels.strong_pixels(
        image,
        mask,
        kernel_fast=config.kernel_size[0],
        kernel_slow=config.kernel_size[1],
        sigma_background=config.sigma_background,
        sigma_strong=config.sigma_strong,
        global_threshold=config.global_threshold,
        min_count=config.min_local,
        gain=gain,
    )


def resolution(spots: ReflectionTable, detector: Detector, beam: Beam) -> FloatArray:
    """Resolution of observed spots, angstrom, shape (n,)."""
    lab = detector.pixel_to_lab(spots["panel"], spots["xyzobs.px.value"][:, :2])
    q = np.linalg.norm(beam.reciprocal(lab), axis=1)
    return np.asarray(1.0 / np.maximum(q, 1e-12))


def _panel_spots(
    number: int, panel: Panel, frame: AnyArray, mask: BoolArray, found: AnyArray, config: SpotFindingConfig
) -> ReflectionTable:
    spots = _kernels.spots_from_pixels(
        frame,
        mask,
        found,
        corners=config.connectivity == 8,
        min_pixels=config.min_spot_size,
        max_pixels=config.max_spot_size,
        margin=BACKGROUND_MARGIN_PX,
        gain=config.gain * panel.gain,
        trusted_maximum=panel.trusted_range[1],
    )
    n = len(spots["x"])
    zero, one = np.zeros(n, dtype=np.int32), np.ones(n, dtype=np.int32)
    flags = np.where(spots["overloaded"] > 0, Flag.STRONG | Flag.OVERLOADED, Flag.STRONG).astype(np.uint64)
    table = ReflectionTable(
        {
            "panel": np.full(n, number, dtype=np.uint64),
            "id": np.full(n, -1, dtype=np.int32),
            "bbox": np.column_stack([spots[name] for name in ("x0", "x1", "y0", "y1")] + [zero, one]),
            "xyzobs.px.value": np.column_stack([spots["x"], spots["y"], np.full(n, 0.5)]),
            "xyzobs.px.variance": np.column_stack([spots["x_variance"], spots["y_variance"], np.zeros(n)]),
            "intensity.sum.value": spots["intensity"],
            "intensity.sum.variance": spots["intensity_variance"],
            "background.mean": spots["background"],
            "n_signal": spots["n_pixels"],
            "moments.px": np.column_stack([spots[name] for name in ("xx", "xy", "yy")]),
            "flags": flags,
        }
    )
    separation = np.hypot(spots["peak_x"] - spots["x"], spots["peak_y"] - spots["y"])
    return table.select(separation <= config.max_separation)


def _resolution_filter(d: FloatArray, config: SpotFindingConfig) -> BoolArray:
    keep = np.ones(len(d), dtype=bool)
    if config.d_min is not None:
        keep &= d >= config.d_min
    if config.d_max is not None:
        keep &= d <= config.d_max
    if config.ice_ring_width is not None:
        distance = np.abs(1 / d[:, None] ** 2 - _ice_rings_inverse_d2()[None, :]).min(axis=1, initial=np.inf)
        keep &= distance > config.ice_ring_width / 2
    return keep


@cache
def _ice_rings_inverse_d2() -> FloatArray:
    """1/d^2 of the powder rings of hexagonal ice to 1.0 angstrom, shape (n,)."""
    cell = gemmi.UnitCell(*ICE_CELL)
    indices = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 63/m m c"), 1.0)
    return np.unique(np.round(cell.calculate_1_d2_array(indices), 6))
