"""Section: what became of the shots, overall and along the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from exafel.arrays import BoolArray
from exafel.monitor.report.blocks import Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, OUTCOME_COLOURS, WIDE_INCHES, bin_edges, canvas, svg
from exafel.monitor.report.merged import percent
from exafel.monitor.report.shots import OUTCOMES
from exafel.monitor.report.trial import Trial

_SHOTS_A_BIN = 10
"""Fewest shots of a point of the curves along the run: a rate over fewer says nothing."""


def rates_section(trial: Trial, shots: pd.DataFrame | None, n_bins: int) -> Section | None:
    """Outcomes of shots; None where there is no stills step.

    Parameters
    ----------
    shots
        Table a shot, see `exafel.monitor.report.shots`; None where there is none.
    n_bins
        Points of the curves along the run.
    """
    step = trial.steps.get("stills")
    if step is None:
        return None
    section = Section("shots", "Shots: hits and indexing")
    if shots is None or not len(shots):
        section.note("The stills step has left no table of shots.", warning=True)
        section.numbers = {"summary": step.summary}
        return section
    counts = outcome_counts(shots)
    section.numbers = {"n_shots": len(shots), "outcomes": counts, "reasons": reason_counts(shots), **rates(shots)}
    section.add(_bar(counts))
    section.add(_outcome_table(shots))
    if len(shots) >= 2 * _SHOTS_A_BIN:
        section.add(_along_the_run(shots, n_bins))
    return section


def outcome_counts(shots: pd.DataFrame) -> dict[str, int]:
    """Return the number of shots by outcome, in the order of processing, then any outcome not known here."""
    found = shots["outcome"].value_counts()
    names = [*OUTCOMES, *sorted(str(name) for name in found.index if name not in OUTCOMES)]
    return {name: int(found[name]) for name in names if name in found.index}


def reason_counts(shots: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of shots by outcome and reason, the most frequent first."""
    table: dict[str, dict[str, int]] = {}
    for outcome in outcome_counts(shots):
        counted = shots.loc[shots["outcome"] == outcome, "reason"].value_counts()
        table[outcome] = {str(reason): int(count) for reason, count in counted.items()}
    return table


def is_hit(shots: pd.DataFrame) -> BoolArray:
    """Return which shots had enough spots, shape (n,)."""
    return np.asarray(~shots["outcome"].isin(["no_hit", "read_failed"]), dtype=bool)


def is_indexed(shots: pd.DataFrame) -> BoolArray:
    """Return which shots had a lattice found, whatever became of it later, shape (n,)."""
    return np.asarray(shots["outcome"].isin(["integrated", "integrate_failed"]), dtype=bool)


def rates(shots: pd.DataFrame) -> dict[str, float | None]:
    """Hit and indexing rates as fractions."""
    n, hits, indexed = len(shots), int(is_hit(shots).sum()), int(is_indexed(shots).sum())
    integrated = int((shots["outcome"] == "integrated").sum())
    return {
        "hit_rate": hits / n if n else None,
        "indexed_of_hits": indexed / hits if hits else None,
        "indexed_of_shots": indexed / n if n else None,
        "integrated_of_shots": integrated / n if n else None,
    }


def _outcome_table(shots: pd.DataFrame) -> Table:
    total = len(shots)
    rows: list[tuple[Any, ...]] = []
    for outcome, reasons in reason_counts(shots).items():
        n_outcome = sum(reasons.values())
        shown = list(reasons.items())[:8]
        words = "; ".join(f"{reason} ({text(count)})" for reason, count in shown if reason)
        if len(reasons) > len(shown):
            words += f"; and {len(reasons) - len(shown)} more"
        rows.append((outcome.replace("_", " "), n_outcome, percent(n_outcome / total), words))
    caption = "What became of every shot, and why."
    return Table(caption, ("outcome", "shots", "share", "reasons"), tuple(rows), total=("all", total, "100.0 %", ""))


def _bar(counts: dict[str, int]) -> Figure:
    total = sum(counts.values())
    alt = "Bar of shots by outcome: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
    with canvas(WIDE_INCHES, 0.7) as figure:
        axes = figure.subplots()
        left = 0
        for name, count in counts.items():
            colour = COLOURS[OUTCOME_COLOURS.get(name, "red")]
            label = f"{name.replace('_', ' ')} {100 * count / total:.1f} %"
            axes.barh(0, count, left=left, color=colour, height=0.6, label=label, edgecolor=COLOURS["paper"])
            left += count
        axes.set_xlim(0, total)
        axes.set_axis_off()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=len(counts), handlelength=1.0)
        picture = svg(figure, "outcomes", alt)
    numbers = Numbers("outcomes", {"outcome": list(counts), "shots": list(counts.values())})
    return Figure("Shots by outcome.", alt, picture, numbers, wide=True)


def _along_the_run(shots: pd.DataFrame, n_bins: int) -> Figure:
    edges = bin_edges(len(shots), min(n_bins, len(shots) // _SHOTS_A_BIN))
    sizes = np.diff(edges)
    hits, indexed = (np.add.reduceat(which(shots).astype(np.int64), edges[:-1]) for which in (is_hit, is_indexed))
    of_hits = np.divide(indexed, hits, out=np.full(len(sizes), np.nan), where=hits > 0)
    alt = "Hit rate and indexing rate along the run."
    with canvas(WIDE_INCHES, 2.3) as figure:
        axes = figure.subplots()
        for values, colour, alpha, label in (
            (hits / sizes, "grey", 0.35, "hits of all shots"),
            (indexed / sizes, "blue", 0.5, "indexed of all shots"),
        ):
            axes.stairs(100 * values, edges, fill=True, color=COLOURS[colour], alpha=alpha, label=label)
        steps = 100 * np.append(of_hits, of_hits[-1])
        axes.step(edges, steps, where="post", color=COLOURS["green"], label="indexed of hits")
        axes.set_ylim(0, 104)
        axes.set_xlim(0, len(shots))
        axes.set_ylabel("per cent")
        axes.set_xlabel("shot, in the order of the input")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        picture = svg(figure, "rates", alt)
    columns = {
        "first_shot": edges[:-1],
        "last_shot": edges[1:] - 1,
        "hit_rate": hits / sizes,
        "indexed_of_shots": indexed / sizes,
        "indexed_of_hits": of_hits,
    }
    caption = f"Hit and indexing rates along the run, in bins of about {text(int(np.median(sizes)))} shots."
    return Figure(caption, alt, picture, Numbers("rates", columns), wide=True)
