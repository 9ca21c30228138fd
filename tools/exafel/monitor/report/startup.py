"""Section: how long ranks took to begin, by step and number of nodes."""

from __future__ import annotations

from exafel.monitor.report.blocks import Figure, Numbers, Section, Table
from exafel.monitor.report.charts import COLOURS, SERIES, canvas, svg
from exafel.monitor.report.trial import Trial
from exafel.monitor.startup import PHASES, draw, startup_table


def startup_section(trial: Trial) -> Section | None:
    """Seconds from the launch of each step to its first image; None where no step has them in its manifest."""
    table = startup_table(step.manifest for step in trial.steps.values() if step.manifest is not None)
    if table.empty:
        return None
    section = Section("startup", "Start-up")
    section.numbers["steps"] = table.to_dict("records")
    rows = tuple(
        (
            row["step"],
            row["nodes"],
            row["ranks"],
            *(_range(row[phase], row[f"{phase}_largest"]) for phase in PHASES),
            float(f"{row['total_largest']:.3g}"),
        )
        for row in table.to_dict("records")
    )
    alt = "Seconds that the slowest rank of each step took to begin, by phase, against the number of nodes."
    with canvas() as figure:
        draw(figure.subplots(), table, (COLOURS[name] for name in SERIES))
        picture = svg(figure, "startup", alt)
    numbers = Numbers("startup", {str(name): table[name].tolist() for name in table.columns})
    caption = "Seconds before work, of the slowest rank of each step. A line joins medians of steps on as many nodes."
    head = ("step", "nodes", "ranks", *(f"{words} (s)" for words in PHASES.values()), "all, slowest rank (s)")
    section.add(Figure(caption, alt, picture, numbers), Table("Median of ranks – slowest rank.", head, rows))
    return section


def _range(median: float, largest: float) -> str:
    return "–" if median != median else f"{median:.2f} – {largest:.2f}"
