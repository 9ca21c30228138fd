"""One shot as one picture: all panels where they stand in the laboratory, seen from the source along the beam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray
from exafel.io.geometry import Beam, Detector, Panel

_MOST_FINE_PIXELS = 64_000_000


@dataclass(frozen=True, eq=False)
class Mosaic:
    """A picture and where it lies.

    Parameters
    ----------
    pixels
        Counts, row 0 at the top, NaN where there is no good pixel, shape (rows, columns).
    left_mm, top_mm
        Position of the outer corner of the first pixel in the view.
    step_mm
        Size of a pixel.
    view
        Unit vectors to the right and upwards, shape (2, 3), laboratory frame.
    """

    pixels: Float32Array
    left_mm: float
    top_mm: float
    step_mm: float
    view: FloatArray

    def place(self, lab_mm: FloatArray) -> FloatArray:
        """Column and row (in pixels of the picture, from its outer corner) of laboratory positions (n, 3)."""
        across = np.asarray(lab_mm, dtype=np.float64) @ self.view.T
        return np.column_stack([(across[:, 0] - self.left_mm), (self.top_mm - across[:, 1])]) / self.step_mm

    def binned(self, size_px: int) -> Mosaic:
        """Average blocks of pixels so that neither side is longer than `size_px`; bad pixels do not count."""
        factor = -(-max(self.pixels.shape) // size_px)
        if factor == 1:
            return self
        rows, columns = (-(-length // factor) for length in self.pixels.shape)
        padded = np.full((rows * factor, columns * factor), np.nan, dtype=np.float32)
        padded[: self.pixels.shape[0], : self.pixels.shape[1]] = self.pixels
        blocks = padded.reshape(rows, factor, columns, factor)
        good = np.isfinite(blocks)
        counts = good.sum(axis=(1, 3))
        sums = np.where(good, blocks, 0).sum(axis=(1, 3))
        means = np.divide(sums, counts, out=np.full((rows, columns), np.nan, dtype=np.float32), where=counts > 0)
        return Mosaic(means, self.left_mm, self.top_mm, self.step_mm * factor, self.view)

    def window(self, column: float, row: float, size_px: int) -> tuple[int, int, int, int]:
        """Limits (column0, column1, row0, row1) of a square window about a place, moved inside the picture."""
        rows, columns = self.pixels.shape
        width, height = min(size_px, columns), min(size_px, rows)
        c0 = int(np.clip(round(column) - width // 2, 0, columns - width))
        r0 = int(np.clip(round(row) - height // 2, 0, rows - height))
        return c0, c0 + width, r0, r0 + height


def view_along(beam: Beam) -> FloatArray:
    """Axes to the right and upwards of a view along the beam: the laboratory's x, and what is normal to both."""
    toward_source = beam.direction / np.linalg.norm(beam.direction)
    x = np.array([1.0, 0.0, 0.0])
    right = x - (x @ toward_source) * toward_source
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(toward_source, right)])


def assemble(frames: Sequence[AnyArray], masks: Sequence[BoolArray] | None, detector: Detector, beam: Beam) -> Mosaic:
    """Put the panels of one shot where they stand, each pixel of the picture taking the nearest pixel's counts.

    Parameters
    ----------
    frames
        Pixels, one array of shape (slow, fast) a panel.
    masks
        The file's own mask, one array a panel, True where good; None where there is none.
    """
    view = view_along(beam)
    corners = np.concatenate([_corners(panel) @ view.T for panel in detector.panels])
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = min(min(panel.pixel_size_mm) for panel in detector.panels)
    step *= max(1.0, float(np.sqrt(np.prod((high - low) / step) / _MOST_FINE_PIXELS)))
    columns, rows = (max(int(np.ceil(length / step - 1e-6)), 1) for length in high - low)
    picture = Mosaic(np.full((rows, columns), np.nan, dtype=np.float32), low[0], high[1], step, view)
    for number, (panel, frame) in enumerate(zip(detector.panels, frames, strict=True)):
        good = panel.trusted_mask(frame)
        if masks is not None:
            good &= masks[number]
        _draw(picture, panel, np.where(good, frame, np.nan).astype(np.float32))
    return picture


def _corners(panel: Panel) -> FloatArray:
    fast, slow = (n * size for n, size in zip(panel.image_size, panel.pixel_size_mm, strict=True))
    ends = [(0.0, 0.0), (fast, 0.0), (0.0, slow), (fast, slow)]
    return np.array([panel.origin_mm + f * panel.fast_axis + s * panel.slow_axis for f, s in ends])


def _draw(picture: Mosaic, panel: Panel, counts: Float32Array) -> None:
    """Look up, for every pixel of the picture near the panel, the panel's pixel under it."""
    axes = np.column_stack([panel.fast_axis * panel.pixel_size_mm[0], panel.slow_axis * panel.pixel_size_mm[1]])
    to_view = picture.view @ axes  # a step along fast and slow, in mm of the view
    if abs(np.linalg.det(to_view)) < 1e-3 * panel.pixel_size_mm[0] * panel.pixel_size_mm[1]:
        return  # seen edge on
    across = picture.place(_corners(panel))
    (c0, r0), (c1, r1) = np.floor(across.min(axis=0)).astype(int), np.ceil(across.max(axis=0)).astype(int)
    rows, columns = picture.pixels.shape
    c0, r0, c1, r1 = max(c0, 0), max(r0, 0), min(c1, columns), min(r1, rows)
    x = picture.left_mm + (np.arange(c0, c1) + 0.5) * picture.step_mm
    y = picture.top_mm - (np.arange(r0, r1) + 0.5) * picture.step_mm
    offset = picture.view @ panel.origin_mm
    inverse = np.linalg.inv(to_view)
    fast = inverse[0, 0] * (x - offset[0])[None, :] + inverse[0, 1] * (y - offset[1])[:, None]
    slow = inverse[1, 0] * (x - offset[0])[None, :] + inverse[1, 1] * (y - offset[1])[:, None]
    i, j = np.floor(fast).astype(np.int64), np.floor(slow).astype(np.int64)
    inside = (i >= 0) & (j >= 0) & (i < panel.image_size[0]) & (j < panel.image_size[1])
    target = picture.pixels[r0:r1, c0:c1]
    target[inside] = counts[j[inside], i[inside]]


def resolution_ring(detector: Detector, beam: Beam, d_angstrom: float, n: int = 180) -> FloatArray:
    """Laboratory positions where the cone of one resolution meets the detector; NaN where it misses, shape (n, 3)."""
    sine = beam.wavelength_angstrom / (2.0 * d_angstrom)
    if sine >= 1.0:
        return np.full((n, 3), np.nan)
    two_theta = 2.0 * np.arcsin(sine)
    right, up = view_along(beam)
    forward = -beam.direction / np.linalg.norm(beam.direction)
    phi = np.linspace(0.0, 2.0 * np.pi, n)
    rays = np.cos(two_theta) * forward + np.sin(two_theta) * (np.cos(phi)[:, None] * right + np.sin(phi)[:, None] * up)
    panel, xy = detector.ray_to_pixel(rays)
    lab = np.full((n, 3), np.nan)
    lab[panel >= 0] = detector.pixel_to_lab(panel[panel >= 0], xy[panel >= 0])
    return lab
