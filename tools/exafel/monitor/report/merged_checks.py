"""What the distribution of merged intensities says: Wilson plot, twinning, Bijvoet differences, indexing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from exafel.monitor.report.blocks import Figure, Numbers, Section, Table
from exafel.monitor.report.charts import COLOURS, canvas, resolution_axis, svg

_TESTS = (
    ("acentric_moment", "⟨I²⟩/⟨I⟩², acentric", "2", "1.5"),
    ("centric_moment", "⟨I²⟩/⟨I⟩², centric", "3", "2"),
    ("mean_l", "⟨|L|⟩", "0.5", "0.375"),
    ("mean_l_squared", "⟨L²⟩", "0.333", "0.2"),
)
_ERROR_MODELS = {
    "ev11": "Error model ev11 (Evans 2011; Brewster et al. 2019): σ′² = sdfac² (σ² + sdb² ⟨I⟩ + sdadd² ⟨I⟩²).",
    "given": "Error model with given factors: σ′² = sdfac² (σ² + sdb² I + sdadd² I²), I the reference's.",
    "mm24": "Error model mm24 (Mittan-Moreau et al. 2024): σ′² = sfac² (σ² + (a² exp(−b CC) + c²) ⟨I⟩²), CC the "
    "correlation of the lattice with the reference.",
}


def add_checks(section: Section, summary: Mapping[str, Any]) -> None:
    """Add what the summary of a merge says of its intensities as a whole; nothing where it says nothing."""
    checks = summary.get("checks") or {}
    if checks.get("wilson"):
        section.add(_wilson(checks["wilson"], checks.get("wilson_b")))
    rows = tuple(
        (name, f"{checks[key]:.3f}", plain, twin) for key, name, plain, twin in _TESTS if checks.get(key) is not None
    )
    if rows:
        caption = "Tests for twinning. L compares neighbours two indices apart (Padilla & Yeates 2003)."
        if checks.get("twin_fraction") is not None:
            caption += f" The twin fraction that ⟨|L|⟩ corresponds to is {checks['twin_fraction']:.2f}."
        section.add(Table(caption, ("test", "found", "untwinned", "perfect twin"), rows))
    _add_anomalous(section, summary)


def _add_anomalous(section: Section, summary: Mapping[str, Any]) -> None:
    if not summary.get("n_anom") or summary.get("cc_anom") is None:
        return
    rows = (
        ("acentric reflections with both mates", summary["n_anom"], ""),
        ("CC of the differences of the halves", f"{summary['cc_anom']:.3f}", "0 without anomalous signal"),
        ("mean |difference| / its error", f"{summary['anom_signal']:.3f}", "0.80 without anomalous signal"),
    )
    section.add(Table("Differences of Bijvoet mates.", ("quantity", "value", "what to compare with"), rows))


def add_error_model(section: Section, summary: Mapping[str, Any], meanings: Mapping[str, str]) -> None:
    """Add the parameters of the error model, where it has any."""
    parameters = summary.get("error_parameters") or {
        key: summary[key] for key in ("sdfac", "sdb", "sdadd") if summary.get(key) is not None
    }
    if parameters:
        rows = tuple((name, f"{value:.3f}", meanings.get(name, "")) for name, value in parameters.items())
        caption = _ERROR_MODELS[summary.get("error_model") or "ev11"]
        section.add(Table(caption, ("factor", "value", "what it widens"), rows))


def add_indexing(section: Section, summary: Mapping[str, Any]) -> None:
    """Add how many lattices were merged in which indexing, where there is a choice."""
    reindexed = summary.get("reindexed") or {}
    if reindexed:
        rows = tuple(reindexed.items())
        section.add(Table("Lattices by the indexing that they were brought to.", ("indices", "lattices"), rows))


def _wilson(points: Sequence[Mapping[str, Any]], b_factor: float | None) -> Figure:
    alt = "Wilson plot: logarithm of the mean intensity over that of atoms placed at random, against resolution."
    inverse = np.array([point["inverse_d_squared"] for point in points])
    ratio = np.array([point["ln_ratio"] for point in points])
    with canvas() as figure:
        axes = figure.subplots()
        axes.plot(inverse, ratio, marker="o", markersize=3.5, color=COLOURS["blue"])
        if b_factor is not None:
            beyond = inverse > 1 / 16
            level = float(np.mean(ratio[beyond] + b_factor / 2 * inverse[beyond]))
            axes.plot(inverse[beyond], level - b_factor / 2 * inverse[beyond], color=COLOURS["orange"], linewidth=1.0)
        axes.set_ylabel("ln(⟨I⟩ / Σf²)")
        resolution_axis(axes, (float(inverse.min()) ** -0.5, float(inverse.max()) ** -0.5))
        picture = svg(figure, "wilson", alt)
    known = "" if b_factor is None else f" The line beyond 4 Å has B = {b_factor:.1f} Å²."
    caption = f"Wilson plot; its level means nothing, its slope is the B factor.{known}"
    columns = {key: [point[key] for point in points] for key in ("d_min", "inverse_d_squared", "ln_ratio")}
    return Figure(caption, alt, picture, Numbers("wilson", columns))
