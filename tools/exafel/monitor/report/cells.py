"""Section: unit cells of the lattices, and the clusters that they fall into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from exafel.monitor.report.blocks import Figure, Section, Table, text
from exafel.monitor.report.charts import WIDE_INCHES, canvas, histogram, histogram_numbers, svg
from exafel.monitor.report.merged import percent
from exafel.monitor.report.shots import CELL_COLUMNS
from exafel.monitor.report.trial import Trial

_SAME = 1e-4
"""Spread of a cell parameter below which symmetry holds it."""
_LABELS = ("a (Å)", "b (Å)", "c (Å)", "α (°)", "β (°)", "γ (°)")


def cells_section(trial: Trial, lattices: pd.DataFrame | None, n_bins: int) -> Section | None:
    """Histograms of the six cell parameters and the clusters of the cells step.

    Parameters
    ----------
    lattices
        One row a lattice with the columns `CELL_COLUMNS`; None where there is no such table.
    """
    cells = trial.steps.get("cells")
    known = lattices is not None and len(lattices) > 0
    if cells is None and not known:
        return None
    section = Section("cells", "Unit cells")
    if lattices is not None and known:
        statistics = cell_statistics(lattices)
        section.numbers = {"n_lattices": len(lattices), "statistics": statistics}
        section.add(_histograms(lattices, n_bins))
        rows = tuple((label, *(f"{value:.3f}" for value in statistics[name].values())) for name, label in _NAMES)
        section.add(
            Table(
                f"Cells of {text(len(lattices))} lattices.",
                ("parameter", "median", "mean", "standard deviation", "5 %", "95 %"),
                rows,
            )
        )
    if cells is not None:
        section.numbers["cells_step"] = cells.summary
        _add_clusters(section, cells.summary.get("clusters") or [])
    return section


_NAMES = tuple(zip(CELL_COLUMNS, _LABELS, strict=True))


def cell_statistics(lattices: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Median, mean, standard deviation and the 5 and 95 percentile of each cell parameter."""
    table = {}
    for name in CELL_COLUMNS:
        values = lattices[name].to_numpy(np.float64)
        low, high = np.percentile(values, [5, 95])
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        table[name] = {
            "median": float(np.median(values)),
            "mean": float(values.mean()),
            "standard_deviation": spread,
            "percentile_5": float(low),
            "percentile_95": float(high),
        }
    return table


def _histograms(lattices: pd.DataFrame, n_bins: int) -> Figure:
    alt = f"Histograms of the cell parameters of {len(lattices)} lattices with their medians."
    values = {name: lattices[name].to_numpy(np.float64) for name in CELL_COLUMNS}
    varying = [item for item in _NAMES if np.ptp(values[item[0]]) > _SAME]
    held = [f"{label.split()[0]} = {values[name][0]:g}" for name, label in _NAMES if (name, label) not in varying]
    bars: list[tuple[Any, ...]] = []
    n_rows = -(-len(varying) // 3)
    with canvas(WIDE_INCHES, 2.1 * max(n_rows, 1)) as figure:
        for axes, (name, label) in zip(_grid(figure, len(varying)), varying, strict=True):
            bars += histogram(axes, values[name], label, n_bins=n_bins)
            axes.set_title(f"median {np.median(values[name]):.2f}")
        picture = svg(figure, "cells", alt)
    caption = "Unit cells of all lattices. Dashed lines: medians. Cells beyond the axes count in the outermost bars."
    if held:
        caption += f" The same in all lattices: {', '.join(held)}."
    return Figure(caption, alt, picture, histogram_numbers("cells", bars), wide=True)


def _grid(figure: Canvas, n: int) -> list[Axes]:
    """Return `n` axes in rows of three."""
    if n == 0:
        return []
    grid = list(figure.subplots(-(-n // 3), 3, squeeze=False).ravel())
    for axes in grid[n:]:
        axes.set_axis_off()
    return grid[:n]


def _add_clusters(section: Section, clusters: Sequence[Mapping[str, Any]]) -> None:
    if not clusters:
        section.note("The cells step lists no clusters.")
        return
    head = ("cluster", "lattices", "share", "space group", *_LABELS)
    rows = tuple(_cluster_row(number, cluster) for number, cluster in enumerate(clusters, start=1))
    section.add(Table("Clusters of cells, the largest first: median ± robust standard deviation.", head, rows))


def _cluster_row(number: int, cluster: Mapping[str, Any]) -> tuple[Any, ...]:
    pairs = zip(cluster["median"], cluster["robust_sigma"], strict=True)
    cell = tuple(f"{median:.2f}\u202f±\u202f{sigma:.2f}" if sigma > _SAME else f"{median:g}" for median, sigma in pairs)
    return (number, cluster["size"], percent(cluster["fraction"]), cluster["space_group"], *cell)
