"""Section: distributions over shots and lattices of what tells a good one from a bad one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from exafel.arrays import FloatArray
from exafel.monitor.report.blocks import Figure, Numbers, Section, text
from exafel.monitor.report.charts import WIDE_INCHES, canvas, histogram, svg

_QUANTITIES = (
    ("n_spots", "spots a shot (hits)", "sky"),
    ("n_indexed", "spots indexed a shot", "blue"),
    ("rmsd_px", "rmsd of indexed spots (px)", "orange"),
    ("rmsd_delta_psi_deg", "rmsd of Δψ (°)", "orange"),
    ("n_integrated", "reflections integrated a shot", "green"),
    ("d_min", "resolution of a shot (Å)", "green"),
    ("half_mosaicity_deg", "half mosaicity (°)", "purple"),
    ("domain_size_angstrom", "mosaic domain size (Å)", "purple"),
)


def quality_section(shots: pd.DataFrame | None, lattices: pd.DataFrame | None, n_bins: int) -> Section | None:
    """Histograms of spots, residuals, resolution and mosaicity; None where nothing is known of any."""
    known = {name: values for name, _, _ in _QUANTITIES if len(values := _values(name, shots, lattices))}
    if not known:
        return None
    section = Section("lattices", "Indexing and refinement")
    section.numbers = {name: _numbers(values) for name, values in known.items()}
    section.add(_figure(known, n_bins))
    return section


def _values(name: str, shots: pd.DataFrame | None, lattices: pd.DataFrame | None) -> FloatArray:
    """Finite values of one quantity: of hits, of integrated shots, or of lattices."""
    table = next((table for table in (shots, lattices) if table is not None and name in table), None)
    if table is None:
        return np.zeros(0)
    if "outcome" in table:
        wanted = table["outcome"] != "no_hit" if name == "n_spots" else table["outcome"] == "integrated"
        table = table[wanted]
    values = table[name].to_numpy(np.float64)
    return values[np.isfinite(values)]


def _numbers(values: FloatArray) -> dict[str, Any]:
    low, median, high = np.percentile(values, [5, 50, 95])
    return {"n": len(values), "median": median, "mean": values.mean(), "percentile_5": low, "percentile_95": high}


def _figure(known: dict[str, FloatArray], n_bins: int) -> Figure:
    n_columns = min(len(known), 4)
    n_rows = -(-len(known) // n_columns)
    alt = "Histograms of " + ", ".join(label for name, label, _ in _QUANTITIES if name in known)
    columns: dict[str, Any] = {}
    with canvas(WIDE_INCHES, 2.0 * n_rows) as figure:
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes in grid[len(known) :]:
            axes.set_axis_off()
        shown = [item for item in _QUANTITIES if item[0] in known]
        for axes, (name, label, colour) in zip(grid, shown, strict=False):
            found = histogram(axes, known[name], label, n_bins=n_bins, colour=colour)
            axes.set_title(f"median {text(float(np.median(known[name])), 3)}")
            columns.update({f"{name}_{key}": values for key, values in found.items()})
        picture = svg(figure, "lattices", alt)
    caption = (
        "Over hits (spots), integrated shots and lattices. Dashed lines: medians; outliers count in the outermost bars."
    )
    return Figure(caption, alt, picture, Numbers("lattices", columns), wide=True)
