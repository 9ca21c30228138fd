"""Section: where the time went, by step, phase and rank, and how many shots a second that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from exafel.monitor.report.blocks import Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, SERIES, WIDE_INCHES, canvas, svg
from exafel.monitor.report.trial import StepFolder, Trial

_SHOT_PHASES = ("read", "spotfind", "index", "integrate")
"""Phases of one shot, in their order; another engine's come after them."""
_REST = "rest of shots"
"""What the loop over shots took beyond its phases."""
_MOST_BARS = 64
"""Ranks up to which each has a bar; more are put together in runs of ranks, with their mean."""


def timings_section(trial: Trial) -> Section | None:
    """Wall and CPU time of each step by phase, and of the stills step by rank; None where no step has finished."""
    tables = {step.name: table for step in trial.steps.values() if len(table := rank_phases(step))}
    if not tables:
        return None
    section = Section("timings", "Timings")
    rows: list[tuple[Any, ...]] = []
    for name, table in tables.items():
        phases = by_phase(table).to_dict("records")
        section.numbers[name] = {"n_ranks": int(table["rank"].nunique()), "phases": phases}
        rows += _rows(name, phases)
    head = ("step", "phase", "wall time a rank (s)", "smallest – largest", "CPU time, all ranks (s)", "share (%)")
    longest = max(tables, key=lambda name: float(tables[name]["cpu_s"].sum()))
    shown = "stills" if "stills" in tables else longest
    section.add(_figure(shown, tables[shown]), Table("Time by phase.", head, tuple(rows)))
    return section


def _rows(name: str, phases: list[dict[Any, Any]]) -> list[tuple[Any, ...]]:
    total = max(sum(phase["cpu_sum"] for phase in phases), 1e-9)
    return [
        (
            name if number == 0 else "",
            str(phase["phase"]).replace("_", " "),
            float(f"{phase['wall_mean']:.3g}"),
            f"{phase['wall_min']:.3g} – {phase['wall_max']:.3g}",
            float(f"{phase['cpu_sum']:.3g}"),
            round(100 * phase["cpu_sum"] / total, 1),
        )
        for number, phase in enumerate(phases)
    ]


def rank_phases(step: StepFolder) -> pd.DataFrame:
    """One row a rank and phase: ``rank``, ``host``, ``phase``, ``wall_s``, ``cpu_s``; the rest is ``other``."""
    ranks = [] if step.manifest is None else step.manifest.timings_s.get("ranks", [])
    rows = []
    inner = set(step.summary.get("cpu_s_per_phase", ()))
    for entry in ranks:
        phases = _disjoint(entry.get("phases", {}), inner)
        rest = {
            key: max(entry.get(key, 0.0) - sum(phase[key] for phase in phases.values()), 0.0)
            for key in ("wall_s", "cpu_s")
        }
        for name, times in {**phases, "other": rest}.items():
            rows.append({"rank": entry["rank"], "host": entry.get("host", ""), "phase": name, **times})
    return pd.DataFrame(rows, columns=["rank", "host", "phase", "wall_s", "cpu_s"])


def _disjoint(phases: Mapping[str, Mapping[str, float]], inner: set[str]) -> dict[str, dict[str, float]]:
    """Phases that do not overlap: in place of the stills step's loop over shots, the phases in it and what is left.

    Only CPU time is known of the phases in the loop. It can be more than the loop took: shots that an interrupted run
    had finished bring theirs, and another program may use several processors. Their wall times are then shortened
    alike, so that a rank's phases never add up to more than its wall time.
    """
    if "shots" not in phases:
        return {name: dict(times) for name, times in phases.items()}
    names = [*_SHOT_PHASES, *sorted(inner.difference(_SHOT_PHASES, {"shots"}))]
    inside = {name: dict(phases[name]) for name in names if name in inner and name in phases}
    loop = phases["shots"]
    shortened = min(1.0, loop["wall_s"] / max(sum(part["wall_s"] for part in inside.values()), 1e-9))
    for part in inside.values():
        part["wall_s"] *= shortened
    rest = {key: max(loop[key] - sum(part[key] for part in inside.values()), 0.0) for key in ("wall_s", "cpu_s")}
    result: dict[str, dict[str, float]] = {}
    for name, times in phases.items():
        if name == "shots":
            result |= inside | {_REST: rest}
        elif name not in inside:
            result[name] = dict(times)
    return result


def by_phase(table: pd.DataFrame) -> pd.DataFrame:
    """Means, ranges and sums over ranks, one row a phase, in the order of running."""
    groups = table.groupby("phase", sort=False)
    return pd.DataFrame(
        {
            "wall_mean": groups["wall_s"].mean(),
            "wall_min": groups["wall_s"].min(),
            "wall_max": groups["wall_s"].max(),
            "cpu_sum": groups["cpu_s"].sum(),
        }
    ).reset_index()


def _figure(name: str, table: pd.DataFrame) -> Figure:
    wide = table.pivot_table(index="rank", columns="phase", values="wall_s", aggfunc="sum", fill_value=0.0, sort=False)
    wide = wide.sort_index()
    step = -(-len(wide) // _MOST_BARS)
    grouped = wide.groupby(np.arange(len(wide)) // step).mean()
    labels = [str(wide.index[number * step]) for number in range(len(grouped))]
    alt = f"Bars of the wall time of the step {name} by phase, one a rank."
    with canvas(WIDE_INCHES, float(np.clip(0.95 + 0.3 * len(grouped), 1.4, 5.0))) as figure:
        axes = figure.subplots()
        left = np.zeros(len(grouped))
        for number, phase in enumerate(grouped.columns):
            colour = COLOURS["line"] if phase in ("other", _REST) else COLOURS[SERIES[number % len(SERIES)]]
            values = grouped[phase].to_numpy(np.float64)
            axes.barh(
                np.arange(len(grouped)), values, left=left, color=colour, label=str(phase).replace("_", " "), height=0.8
            )
            left += values
        shown = np.unique(np.linspace(0, len(grouped) - 1, min(len(grouped), 12)).astype(int))
        axes.set_yticks(shown, [labels[number] for number in shown])
        axes.set_ylim(len(grouped) - 0.4, -0.6)
        axes.set_xlim(0, 1.02 * float(left.max(initial=1e-9)))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("wall time (s)")
        axes.set_ylabel("rank")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=8, handlelength=1.0)
        picture = svg(figure, f"timings-{name}", alt)
    caption = f"Wall time of each rank of the step {name} by phase."
    if _REST in wide:
        caption += (
            " Phases of shots are CPU time; the rest of shots is the wall time beyond it: waiting for the disk or for"
            " processors that others use, and work between shots."
        )
    if step > 1:
        caption += f" Each bar is the mean of {text(step)} ranks, named by the first."
    columns = {"rank": labels, **{str(phase): grouped[phase].tolist() for phase in grouped.columns}}
    return Figure(caption, alt, picture, Numbers(f"timings-{name}", columns), wide=True)
