"""Section: unit cells of the lattices, and the clusters that they fall into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from exafel.monitor.report.blocks import Figure, Numbers, Section, Table
from exafel.monitor.report.charts import COLOURS, WIDE_INCHES, canvas, histogram, svg
from exafel.monitor.report.shots import CELL_COLUMNS
from exafel.monitor.report.trial import Trial

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
                f"Cells of {len(lattices)} lattices.",
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
    alt = f"Histograms of the six cell parameters of {len(lattices)} lattices with their medians."
    columns: dict[str, Any] = {}
    with canvas(WIDE_INCHES, 3.9) as figure:
        for axes, (name, label) in zip(figure.subplots(2, 3).ravel(), _NAMES, strict=True):
            values = lattices[name].to_numpy(np.float64)
            if np.ptp(values) < 1e-4:  # held by symmetry
                axes.set_axis_off()
                axes.text(
                    0.5, 0.5, f"{label.split()[0]} = {values[0]:g}{label[-2] if '°' in label else ' Å'}", ha="center"
                )
                axes.text(0.5, 0.36, "the same in all lattices", ha="center", color=COLOURS["soft"], fontsize=8)
                continue
            found = histogram(axes, values, label, n_bins=n_bins)
            axes.set_title(f"median {np.median(values):.2f}")
            columns.update({f"{name}_{key}": series for key, series in found.items()})
        picture = svg(figure, "cells", alt)
    caption = "Unit cells of all lattices. Dashed lines: medians. Cells beyond the axes count in the outermost bars."
    return Figure(caption, alt, picture, Numbers("cells", columns), wide=True)


def _add_clusters(section: Section, clusters: Sequence[Mapping[str, Any]]) -> None:
    if not clusters:
        section.note("The cells step lists no clusters.")
        return
    rows = []
    for number, cluster in enumerate(clusters, start=1):
        cell = cluster.get("median") or cluster.get("cell") or ()
        rows.append((number, cluster.get("n"), cluster.get("space_group", ""), *(f"{value:.2f}" for value in cell)))
    section.add(
        Table("Clusters of cells, the largest first.", ("cluster", "lattices", "space group", *_LABELS), tuple(rows))
    )
