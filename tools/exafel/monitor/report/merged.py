"""Section: merged intensities by resolution, lattices left out, and the error model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from exafel.arrays import FloatArray
from exafel.monitor.report.blocks import Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, canvas, resolution_axis, svg
from exafel.monitor.report.merged_checks import add_checks, add_error_model, add_indexing
from exafel.monitor.report.trial import Trial

_PERCENT = "%"
_COLUMNS = (
    ("n_unique", "unique", ""),
    ("completeness", "compl. (%)", _PERCENT),
    ("multiplicity", "multiplicity", ".2f"),
    ("n_obs", "obs.", ""),
    ("mean_i_over_sigma", "⟨I/σ⟩", ".2f"),
    ("n_half", "pairs", ""),
    ("cc_half", "CC½ (%)", _PERCENT),
    ("r_split", "R-split (%)", _PERCENT),
    ("r_int", "R-int (%)", _PERCENT),
    ("cc_iso", "CC-iso (%)", _PERCENT),
    ("cc_half_random", "CC½, random (%)", _PERCENT),
    ("cc_anom", "CC-anom (%)", _PERCENT),
    ("anom_signal", "anom. signal", ".2f"),
)
"""Columns of the table by resolution: key, head, form."""

_MEANINGS = {
    "sdfac": "all errors alike",
    "sdb": "errors that grow with the root of the intensity",
    "sdadd": "errors in proportion to the intensity",
    "sfac": "all errors alike",
    "sadd_a": "errors in proportion to the intensity, of lattices that do not agree",
    "sadd_b": "how fast these fall with the correlation",
    "sadd_c": "errors in proportion to the intensity, of all lattices",
}
"""What each parameter of an error model widens."""

Shell = Mapping[str, Any]


def merged_section(trial: Trial) -> Section | None:
    """Statistics of the merge step; None where there is no such step."""
    step = trial.steps.get("merge")
    if step is None:
        return None
    section = Section("merge", "Merged intensities")
    section.numbers = dict(step.summary)
    shells = step.summary.get("shells") or []
    if not shells:
        section.note("There are no statistics of merged intensities to show.", warning=True)
        return section
    overall = _overall(step.summary, shells)
    if any(shell.get("n_unique") for shell in shells):
        section.add(_agreement(shells), _coverage(shells))
    section.add(_shell_table(shells, overall))
    add_checks(section, step.summary)
    _add_lattices(section, step.summary)
    add_indexing(section, step.summary)
    add_error_model(section, step.summary, _MEANINGS)
    return section


def _overall(summary: Mapping[str, Any], shells: Sequence[Shell]) -> Shell:
    """Put the counts that add up over shells beside the step's own numbers for all shells together."""
    sums = {key: sum(shell.get(key) or 0 for shell in shells) for key in ("n_possible", "n_half")}
    return {**sums, "d_max": shells[0].get("d_max"), "d_min": shells[-1].get("d_min"), **summary}


def percent(value: Any, digits: int = 1) -> str:
    """Show a fraction as a percentage; a dash where it is not known."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def resolution_range(shell: Shell) -> str:
    """Resolution limits as crystallographers write them."""
    low, high = shell.get("d_max"), shell.get("d_min")
    return f"{'∞' if low is None else format(low, '.2f')} – {'?' if high is None else format(high, '.2f')}"


def _shell_table(shells: Sequence[Shell], overall: Shell) -> Table:
    columns = [item for item in _COLUMNS if any(shell.get(item[0]) is not None for shell in shells)]
    head = ("resolution (Å)", *(name for _, name, _ in columns))
    rows = tuple(_shell_row(shell, columns) for shell in shells)
    keys = ("d_max", "d_min", "n_possible", *(key for key, _, _ in _COLUMNS))
    numbers = Numbers("resolution-shells", {key: [shell.get(key) for shell in shells] for key in keys})
    caption = "By resolution, in shells of equal volume. Pairs are reflections that both halves have."
    return Table(caption, head, rows, total=_shell_row(overall, columns), numbers=numbers)


def _shell_row(shell: Shell, columns: Sequence[tuple[str, str, str]]) -> tuple[Any, ...]:
    return (resolution_range(shell), *(_form(shell.get(key), form) for key, _, form in columns))


def _form(value: Any, form: str) -> Any:
    if value is None:
        return None
    if form == _PERCENT:
        return f"{100 * value:.1f}"
    return format(value, form) if form else text(int(value))


def _middles(shells: Sequence[Shell]) -> FloatArray:
    """Middle of each shell in 1/d^2."""
    low = np.array([0.0 if shell.get("d_max") is None else shell["d_max"] ** -2 for shell in shells])
    high = np.array([shell["d_min"] ** -2 for shell in shells])
    return np.asarray((low + high) / 2)


def _column(shells: Sequence[Shell], key: str, factor: float = 1.0) -> FloatArray:
    return np.array([np.nan if shell.get(key) is None else factor * shell[key] for shell in shells])


def _line(axes: Axes, shells: Sequence[Shell], key: str, label: str, colour: str, factor: float = 1.0) -> None:
    values = _column(shells, key, factor)
    if np.isfinite(values).any():
        axes.plot(_middles(shells), values, marker="o", markersize=3.5, color=COLOURS[colour], label=label)


def _finish_axis(axes: Axes, shells: Sequence[Shell]) -> None:
    low = max((shell["d_max"] for shell in shells if shell.get("d_max") is not None), default=20.0)
    resolution_axis(axes, (low, min(shell["d_min"] for shell in shells)))


def _numbers(name: str, shells: Sequence[Shell], keys: Sequence[str]) -> Numbers:
    return Numbers(name, {key: [shell.get(key) for shell in shells] for key in ("d_max", "d_min", *keys)})


def _agreement(shells: Sequence[Shell]) -> Figure:
    alt = "Curves against resolution of the correlation of half data sets and of R-split."
    with canvas() as figure:
        axes = figure.subplots()
        _line(axes, shells, "cc_half", "CC½", "blue", 100)
        _line(axes, shells, "cc_iso", "CC with the reference", "green", 100)
        _line(axes, shells, "r_split", "R-split", "orange", 100)
        axes.set_ylabel("per cent")
        finite = np.concatenate([_column(shells, key, 100) for key in ("cc_half", "cc_iso", "r_split")])
        low, high = np.nanmin(finite, initial=0.0), np.nanmax(finite, initial=0.0)
        axes.set_ylim(min(0.0, 1.05 * float(low)), max(102.0, min(1.05 * float(high), 250.0)))
        _finish_axis(axes, shells)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
        picture = svg(figure, "agreement", alt)
    caption = (
        "Agreement of two halves of the lattices. CC½ is the correlation of their merged intensities, R-split their "
        "relative difference."
    )
    return Figure(caption, alt, picture, _numbers("agreement", shells, ("n_half", "cc_half", "cc_iso", "r_split")))


def _coverage(shells: Sequence[Shell]) -> Figure:
    alt = "Curves against resolution of completeness, multiplicity and mean signal to noise."
    with canvas() as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
        _line(upper, shells, "completeness", "completeness", "blue", 100)
        upper.set_ylim(0, 105)
        upper.set_ylabel("complete (%)")
        _line(lower, shells, "multiplicity", "multiplicity", "purple")
        _line(lower, shells, "mean_i_over_sigma", "⟨I/σ⟩", "green")
        lower.set_ylim(bottom=0)
        if lower.get_legend_handles_labels()[0]:
            lower.legend(loc="best", ncols=2)
        _finish_axis(lower, shells)
        picture = svg(figure, "coverage", alt)
    caption = "How much of what there is was measured, how often, and how strong it is after merging."
    return Figure(
        caption, alt, picture, _numbers("coverage", shells, ("completeness", "multiplicity", "mean_i_over_sigma"))
    )


def _add_lattices(section: Section, summary: Mapping[str, Any]) -> None:
    accepted, rejected = summary.get("n_accepted", 0), summary.get("reasons", {})
    total = summary.get("n_lattices") or accepted + sum(rejected.values())
    counts = {"merged": accepted, **{name.replace("_", " "): count for name, count in rejected.items()}}
    rows = tuple((name, count, percent(count / total if total else None)) for name, count in counts.items())
    caption = "Lattices merged, and left out by reason."
    section.add(Table(caption, ("lattices", "number", "share"), rows, total=("all", total, "")))
