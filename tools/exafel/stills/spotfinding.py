"""Spot finding: strong pixels, joined to spots, filtered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.config.spotfinding import SpotFindingConfig
from exafel.errors import FrameError
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.ice import ice_rings_inverse_d2
from exafel.stills.pixels import kernel_pixels
from exafel.stills.strong_pixels import strong_pixels_of_shot

BACKGROUND_MARGIN_PX = 3
"""How far around a spot's bounding box its local background is taken."""

_FALSE_FRACTION = 0.02


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
    For the thresholds see `exafel.stills.strong_pixels`. Spots do not cross panel borders.
    """
    prepared = [kernel_pixels(frame) for frame in frames]
    strong = strong_pixels_of_shot(prepared, masks, detector, beam, config)
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


def resolution(spots: ReflectionTable, detector: Detector, beam: Beam) -> FloatArray:
    """Resolution of observed spots, angstrom, shape (n,)."""
    lab = detector.pixel_to_lab(spots["panel"], spots["xyzobs.px.value"][:, :2])
    q = np.linalg.norm(beam.reciprocal(lab), axis=1)
    return np.asarray(1.0 / np.maximum(q, 1e-12))


def spot_resolution_limit(d: FloatArray) -> float | None:
    """Resolution that all but a fiftieth of a shot's spots do not exceed, angstrom; None without spots.

    The finest of the spots alone is likely a false one.
    """
    return float(np.quantile(d, _FALSE_FRACTION)) if len(d) else None


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
    keep = separation <= config.max_separation
    if config.min_snr is not None:
        keep &= spots["intensity"] >= config.min_snr * np.sqrt(spots["intensity_variance"])
    return table.select(keep)


def _resolution_filter(d: FloatArray, config: SpotFindingConfig) -> BoolArray:
    keep = np.ones(len(d), dtype=bool)
    if config.d_min is not None:
        keep &= d >= config.d_min
    if config.d_max is not None:
        keep &= d <= config.d_max
    if config.ice_ring_width is not None:
        distance = np.abs(1 / d[:, None] ** 2 - ice_rings_inverse_d2()[None, :]).min(axis=1, initial=np.inf)
        keep &= distance > config.ice_ring_width / 2
    return keep
