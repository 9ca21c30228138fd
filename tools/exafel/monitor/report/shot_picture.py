"""Drawing one shot: its panels as a picture, found spots as circles, predicted reflections as squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.io.geometry import Beam, Detector
from exafel.monitor.report.blocks import Figure, Numbers, text
from exafel.monitor.report.mosaic import Mosaic, resolution_ring
from exafel.monitor.report.png import SHADES, grey_png_link

_DETAIL_PX = 200
_MOST_MARKS = 4000
_ROUND_RESOLUTIONS = (20, 15, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8)
_RINGS_AT = (0.3, 0.5, 0.68, 0.86)
"""Where rings are wanted, as fractions of the finest resolution in 1/d."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Places on the detector.

    Parameters
    ----------
    panel
        Panel numbers, shape (n,).
    xy_px
        Pixel positions, shape (n, 2).
    """

    panel: AnyArray
    xy_px: FloatArray

    def __len__(self) -> int:
        return len(self.panel)

    def lab(self, detector: Detector) -> FloatArray:
        """Laboratory positions, shape (n, 3), mm."""
        return detector.pixel_to_lab(self.panel, self.xy_px)


@dataclass(frozen=True, eq=False)
class ShotView:
    """A shot to be drawn.

    Parameters
    ----------
    name
        In front of the names of its figures.
    label
        The image's file and number.
    mosaic
        Its pixels, not binned.
    spots, predicted
        What was found, and what the refined lattices predict.
    """

    name: str
    label: str
    mosaic: Mosaic
    detector: Detector
    beam: Beam
    spots: Marks
    predicted: Marks


def draw_whole(shot: ShotView, size_px: int, remark: str) -> Figure:
    """Draw the whole detector with rings of resolution."""
    picture = shot.mosaic.binned(size_px)
    alt = f"Image {shot.label} with {len(shot.spots)} found spots and {len(shot.predicted)} predicted reflections."
    rows, columns = picture.pixels.shape
    code = _svg(shot, picture, (0, columns, 0, rows), max(rows, columns) / 160, alt, rings=True)
    caption = f"{shot.label}: {remark} {_key(shot)} Seen from the source; dashed rings are marked in ångström."
    return Figure(caption, alt, code, _numbers(f"{shot.name}-spots", shot, shot.spots))


def draw_detail(shot: ShotView) -> Figure:
    """Draw the part with the most reflections in it, pixel by pixel."""
    picture = shot.mosaic
    places = picture.place((shot.predicted if len(shot.predicted) else shot.spots).lab(shot.detector))
    column, row = _densest(places, picture.pixels.shape)
    window = picture.window(column, row, _DETAIL_PX)
    size = f"{window[1] - window[0]} × {window[3] - window[2]} pixels"
    alt = f"Detail of image {shot.label}, {size}."
    code = _svg(shot, picture, window, 4.5, alt, rings=False)
    caption = f"A detail of the same image, {size}, where there are most reflections."
    return Figure(caption, alt, code, _numbers(f"{shot.name}-predicted", shot, shot.predicted))


def _svg(
    shot: ShotView, picture: Mosaic, window: tuple[int, int, int, int], radius: float, alt: str, *, rings: bool
) -> str:
    """Write the picture and its marks, in units of the picture's pixels from the window's corner."""
    c0, c1, r0, r1 = window
    size = np.array([c1 - c0, r1 - r0])
    link = grey_png_link(grey_levels(picture.pixels[r0:r1, c0:c1]))
    label = escape(alt, quote=True)
    parts = [
        f'<svg role="img" class="shot" aria-label="{label}" viewBox="0 0 {size[0]} {size[1]}">',
        f'<image width="{size[0]}" height="{size[1]}" href="{link}" style="image-rendering:pixelated"/>',
    ]
    if rings:
        parts += _ring_marks(shot, picture, float(size.max()))
    stroke = radius / 5
    places = [
        (picture.place(marks.lab(shot.detector)) - (c0, r0))[:_MOST_MARKS] for marks in (shot.predicted, shot.spots)
    ]
    inside = [xy[((xy > -radius) & (xy < size + radius)).all(axis=1)] for xy in places]
    half = 0.55 * radius
    squares = " ".join(
        f"M{x - half:.1f} {y - half:.1f}h{2 * half:.1f}v{2 * half:.1f}h{-2 * half:.1f}z" for x, y in inside[0]
    )
    circles = " ".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>' for x, y in inside[1])
    parts.append(f'<path class="predicted" stroke-width="{0.8 * stroke:.2f}" d="{squares}"/>')
    parts.append(f'<g class="spots" stroke-width="{stroke:.2f}">{circles}</g></svg>')
    return "".join(parts)


def grey_levels(pixels: AnyArray) -> IntArray:
    """Shades of counts, dark where there are many: from the 2nd percentile to well above the background.

    Returns
    -------
    Levels for `exafel.monitor.report.png`, -1 where a count is not known.
    """
    finite = pixels[np.isfinite(pixels)]
    low, middle, high = np.percentile(finite, [2, 50, 99.8]) if len(finite) else (0.0, 0.5, 1.0)
    high = max(high, middle + 3 * (middle - low), low + 1e-6)
    shown = np.clip((np.nan_to_num(pixels, nan=low) - low) / (high - low), 0, 1) ** 1.15
    levels = np.minimum((shown * SHADES).astype(np.int64), SHADES - 1)
    return np.where(np.isfinite(pixels), levels, -1)


def _ring_marks(shot: ShotView, picture: Mosaic, size: float) -> Iterator[str]:
    for d in _ring_resolutions(shot):
        ring = picture.place(resolution_ring(shot.detector, shot.beam, d))
        seen = np.isfinite(ring[:, 0])
        if not seen.any():
            continue
        begins = seen & ~np.append(False, seen[:-1])
        path = "".join(
            f"{'M' if start else 'L'}{x:.1f} {y:.1f}" for (x, y), start in zip(ring[seen], begins[seen], strict=True)
        )
        column, row = ring[seen][np.argmin(ring[seen][:, 1])]
        yield f'<path class="ring" stroke-width="{size / 700:.2f}" stroke-dasharray="{size / 100:.1f}" d="{path}"/>'
        place = f'x="{column:.1f}" y="{row - size / 150:.1f}" font-size="{size / 42:.1f}"'
        yield f'<text class="ring-label" {place}>{d:g} Å</text>'


def _ring_resolutions(shot: ShotView) -> list[float]:
    """Round resolutions that divide the detector's reach."""
    corners = [
        panel.pixel_to_lab(np.array([[0, 0], panel.image_size], dtype=np.float64)) for panel in shot.detector.panels
    ]
    finest = float(np.linalg.norm(shot.beam.reciprocal(np.concatenate(corners)), axis=1).max())
    rounds = np.array(_ROUND_RESOLUTIONS, dtype=np.float64)
    return sorted({float(rounds[np.argmin(np.abs(1 / rounds - fraction * finest))]) for fraction in _RINGS_AT})


def _key(shot: ShotView) -> str:
    found, predicted = len(shot.spots), len(shot.predicted)
    parts = [f"Circles: {text(found)} spots found." if found else "Its spots were not kept."]
    return " ".join(parts + [f"Squares: {text(predicted)} reflections predicted."] * (predicted > 0))


def _densest(places: FloatArray, shape: tuple[int, ...]) -> tuple[float, float]:
    """Middle of the window-sized cell with the most places; the picture's middle where there are none."""
    rows, columns = shape[:2]
    inside = places[(places >= 0).all(axis=1) & (places[:, 0] < columns) & (places[:, 1] < rows)]
    if not len(inside):
        return columns / 2, rows / 2
    cells = (inside // _DETAIL_PX).astype(np.int64)
    found, counts = np.unique(cells, axis=0, return_counts=True)
    column, row = (found[np.argmax(counts)] + 0.5) * _DETAIL_PX
    return float(column), float(row)


def _numbers(name: str, shot: ShotView, marks: Marks) -> Numbers:
    chosen = slice(0, _MOST_MARKS)
    lab = marks.lab(shot.detector)[chosen]
    d = 1 / np.maximum(np.linalg.norm(shot.beam.reciprocal(lab), axis=1), 1e-9)
    return Numbers(
        name,
        {
            "panel": marks.panel[chosen].astype(np.int64),
            "fast_px": np.round(marks.xy_px[chosen, 0], 2),
            "slow_px": np.round(marks.xy_px[chosen, 1], 2),
            "d_angstrom": np.round(d, 3),
        },
    )
