"""Section: comparison with the truth that simulated images were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from exafel.monitor.report.blocks import Fact, Facts, Figure, Numbers, Section, text
from exafel.monitor.report.charts import COLOURS, WIDE_INCHES, canvas, resolution_axis, svg
from exafel.monitor.report.trial import Trial


def truth_section(trial: Trial) -> Section | None:
    """Figures of merit of the evaluate step; None where there is none."""
    step = trial.finished("evaluate")
    if step is None:
        return None
    summary = step.summary
    section = Section("truth", "Comparison with the truth")
    section.numbers = dict(summary)
    section.add(_facts(summary))
    shells = [shell for shell in summary.get("shells", []) if shell.get("cc") is not None]
    if shells:
        section.add(_figure(shells))
    section.note(
        "The images are simulated, so the orientation and cell of every crystal and all intensities are known."
    )
    return section


def _facts(summary: Mapping[str, Any]) -> Facts:
    angle = summary.get("misorientation_deg") or {}
    cell = summary.get("cell_rms_angstrom") or []
    wrong, false = summary.get("n_wrong"), summary.get("n_false")
    return Facts(
        (
            Fact("Misorientation", f"{text(angle.get('median'), 3)}°", f"median; largest {text(angle.get('max'), 3)}°"),
            Fact("Cell error", " ".join(f"{value:.4f}" for value in cell) or "–", "rms of a, b, c (Å)", wide=True),
            Fact("Lattices compared", text(summary.get("n")), f"of {text(summary.get('n_true'))} true crystals"),
            Fact("Wrong, false", f"{text(wrong)}, {text(false)}", "lattices far off, or where no crystal was hit"),
            Fact("CC", text(summary.get("cc_true"), 4), "of merged with true intensities"),
        )
    )


def _figure(shells: Sequence[Mapping[str, Any]]) -> Figure:
    alt = "Correlation of merged with true intensities against resolution."
    middles = np.array([(shell["d_max"] ** -2 + shell["d_min"] ** -2) / 2 for shell in shells])
    with canvas(WIDE_INCHES, 2.3) as figure:
        axes = figure.subplots()
        axes.plot(middles, [shell["cc"] for shell in shells], marker="o", markersize=3.5, color=COLOURS["green"])
        lowest = min(shell["cc"] for shell in shells)
        axes.set_ylim(min(0.0, 1.05 * lowest), 1.02)
        axes.set_ylabel("correlation with the truth")
        resolution_axis(axes, (shells[0]["d_max"], shells[-1]["d_min"]))
        picture = svg(figure, "truth", alt)
    keys = ("d_max", "d_min", "n", "cc")
    numbers = Numbers("truth", {key: [shell[key] for shell in shells] for key in keys})
    return Figure("Correlation of merged with true intensities by resolution.", alt, picture, numbers, wide=True)
