"""Scattering angle of every pixel, computed once for all shots that share a detector."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from exafel.arrays import Float32Array, FloatArray
from exafel.io.geometry import Beam, Detector, Panel

_ROWS = 64  # rows of a panel whose positions are in memory at a time

_known: WeakKeyDictionary[Detector, tuple[bytes, tuple[Float32Array, ...]]] = WeakKeyDictionary()


def two_sine_theta(detector: Detector, beam: Beam) -> Sequence[Float32Array]:
    """2 sin(theta) = wavelength / d of every pixel's centre, one array of shape (slow, fast) a panel.

    It does not depend on the wavelength, which changes from shot to shot, so the last direction's maps are kept as long
    as the detector lives: 4 bytes a pixel.
    """
    direction = beam.s0 * beam.wavelength_angstrom
    mark = direction.tobytes()
    kept = _known.get(detector)
    if kept is None or kept[0] != mark:
        kept = mark, tuple(_of_panel(panel, direction) for panel in detector.panels)
        _known[detector] = kept
    return kept[1]


def _of_panel(panel: Panel, s0_unit: FloatArray) -> Float32Array:
    fast, slow = panel.image_size
    result = np.empty((slow, fast), dtype=np.float32)
    columns = np.arange(fast) + 0.5
    for first in range(0, slow, _ROWS):
        rows = np.arange(first, min(first + _ROWS, slow)) + 0.5
        xy = np.column_stack([np.tile(columns, len(rows)), np.repeat(rows, fast)])
        lab = panel.pixel_to_lab(xy)
        # |s1 - s0| of unit vectors; 2 - 2 cos would lose all digits near the beam
        chord = np.linalg.norm(lab / np.linalg.norm(lab, axis=1, keepdims=True) - s0_unit, axis=1)
        result[first : first + len(rows)] = chord.reshape(len(rows), fast)
    return result
