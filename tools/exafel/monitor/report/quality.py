"""Section: distributions over shots and lattices of what tells a good one from a bad one."""

from __future__ import annotations

from typing import Any

import numpy as np

from exafel.arrays import FloatArray
from exafel.monitor.report.blocks import Figure, Section, text
from exafel.monitor.report.charts import WIDE_INCHES, canvas, histogram, histogram_numbers, svg
from exafel.monitor.report.rates import is_hit
from exafel.monitor.report.shots import Shots

_QUANTITIES = (
    ("n_spots", "spots a hit", "sky"),
    ("n_indexed", "spots indexed a lattice", "blue"),
    ("rmsd_px", "rmsd of indexed spots (px)", "orange"),
    ("n_integrated", "reflections a lattice", "green"),
    ("d_min", "resolution of a lattice (Å)", "green"),
    ("mean_i_over_sigma", "mean I/σ of a lattice", "green"),
    ("half_mosaicity_deg", "half mosaicity (°)", "purple"),
    ("domain_size_angstrom", "mosaic domain size (Å)", "purple"),
)


def quality_section(shots: Shots | None, n_bins: int) -> Section | None:
    """Histograms of spots, residuals, resolution and mosaicity; None where nothing is known of any."""
    known = {} if shots is None else {name: values for name, _, _ in _QUANTITIES if len(values := _values(name, shots))}
    if not known:
        return None
    section = Section("lattices", "Indexing and refinement")
    section.numbers = {name: _numbers(values) for name, values in known.items()}
    section.add(_figure(known, n_bins))
    return section


def _values(name: str, shots: Shots) -> FloatArray:
    """Finite values of one quantity, of hits or of lattices."""
    table = shots.shots[is_hit(shots.shots)] if name == "n_spots" else shots.lattices
    values = np.asarray(table[name], dtype=np.float64)
    return values[np.isfinite(values)]


def _numbers(values: FloatArray) -> dict[str, Any]:
    low, median, high = np.percentile(values, [5, 50, 95])
    return {"n": len(values), "median": median, "mean": values.mean(), "percentile_5": low, "percentile_95": high}


def _figure(known: dict[str, FloatArray], n_bins: int) -> Figure:
    n_columns = min(len(known), 4)
    n_rows = -(-len(known) // n_columns)
    alt = "Histograms of " + ", ".join(label for name, label, _ in _QUANTITIES if name in known)
    bars: list[tuple[Any, ...]] = []
    with canvas(WIDE_INCHES, 2.0 * n_rows) as figure:
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in grid[len(known) :]:
            axes.set_axis_off()
        shown = [item for item in _QUANTITIES if item[0] in known]
        for axes, (name, label, colour) in zip(grid, shown, strict=False):
            bars += histogram(axes, known[name], label, n_bins=n_bins, colour=colour)
            axes.set_title(f"median {text(float(np.median(known[name])), 3)}")
        picture = svg(figure, "lattices", alt)
    caption = (
        "Over hits (spots) and lattices (all others). Dashed lines: medians; outliers count in the outermost bars."
    )
    return Figure(caption, alt, picture, histogram_numbers("lattices", bars), wide=True)
