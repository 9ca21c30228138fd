"""Section: refinement against pixels, and the figures of merit A to E."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from exafel.arrays import FloatArray
from exafel.monitor.report.blocks import Fact, Facts, Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, canvas, resolution_axis, svg
from exafel.monitor.report.trial import StepFolder, Trial

Rows = Sequence[Mapping[str, Any]]


def pixels_section(trial: Trial) -> Section | None:
    """Stages 1 and 2 and their figures of merit; None where neither has finished."""
    stage1, stage2 = trial.finished("stage1"), trial.finished("stage2")
    if stage1 is None and stage2 is None:
        return None
    evaluate = trial.finished("evaluate")
    figures = (evaluate.summary.get("figures") if evaluate is not None else None) or {}
    section = Section("pixels", "Refinement against pixels")
    section.numbers = {
        "stage1": dict(stage1.summary) if stage1 else {},
        "stage2": dict(stage2.summary) if stage2 else {},
        "figures": figures,
    }
    section.add(_facts(stage1, trial.finished("predict"), stage2))
    rows = _convergence(stage2)
    if rows:
        section.add(_convergence_figure(rows))
    if figures.get("a_before") and figures.get("a_after"):
        section.add(_offsets(figures["a_before"], figures["a_after"]))
    if figures.get("d_start"):
        section.add(_by_resolution(figures["d_start"][1:], figures["d_end"][1:]))
        section.add(_by_iteration(figures["iterations"]))
    if figures.get("e_peaks_end"):
        section.add(_peaks(figures.get("e_peaks_merged") or (), figures["e_peaks_end"]))
    return section


def _facts(stage1: StepFolder | None, predict: StepFolder | None, stage2: StepFolder | None) -> Facts:
    facts = []
    if stage1 is not None:
        one = stage1.summary
        before = text(one.get("sigz_before"), 3)
        facts.append(Fact("Stage 1, σ(Z)", text(one.get("sigz_after"), 3), f"median of shots; {before} before"))
        flagged = f"of {text(one.get('n_shots'))} lattices, {text(one.get('n_flagged'))} flagged"
        facts.append(Fact("Refined", text(one.get("n_refined")), flagged))
        if one.get("n_undersampled"):
            width = f"{text(one.get('spot_fwhm_px'), 3)} px wide; give stage1.oversample: auto"
            facts.append(Fact("Undersampled spots", text(one.get("n_undersampled")), f"lattices, {width}"))
    if predict is not None:
        two = predict.summary
        strong = text(two.get("n_strong"))
        facts.append(Fact("Predicted", text(two.get("n_reflections")), f"reflections, {strong} strong"))
    if stage2 is not None:
        three = stage2.summary
        start = text(three.get("sigz_start"), 3)
        facts.append(Fact("Stage 2, σ(Z)", text(three.get("sigz_end"), 3), f"of all pixels; {start} at the start"))
        facts.append(Fact("Iterations", text(three.get("iterations")), f"ended by {three.get('ended_by')}"))
    return Facts(tuple(facts))


def _convergence(stage2: StepFolder | None) -> list[dict[str, float]]:
    files = stage2.files("convergence") if stage2 is not None else []
    if not files:
        return []
    with files[0].open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def _column(rows: Rows, name: str) -> FloatArray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)


def _numbers(name: str, rows: Rows, keys: Sequence[str]) -> Numbers:
    return Numbers(name, {key: [row.get(key) for row in rows] for key in keys})


def _line(axes: Axes, x: FloatArray, y: FloatArray, label: str, colour: str, style: str = "-") -> None:
    if np.isfinite(y).any():
        axes.plot(x, y, style, marker="o", markersize=2.5, color=COLOURS[colour], label=label)


def _against_iteration(rows: Rows, curves: Sequence[tuple[str, str, str]], name: str, alt: str, y: str = "") -> str:
    """Draw columns of the rows, each with its label and colour, against the iteration."""
    with canvas() as figure:
        axes = figure.subplots()
        for column, label, colour in curves:
            _line(axes, _column(rows, "iteration"), _column(rows, column), label, colour)
        axes.set_xlabel("iteration")
        axes.set_ylabel(y)
        axes.legend()
        return svg(figure, name, alt)


def _convergence_figure(rows: Rows) -> Figure:
    alt = "Objective for a pixel against iteration, of fitted and of held-out pixels."
    curves = [
        ("objective_per_pixel", "fitted pixels", "blue"),
        ("held_out_per_pixel", "held-out pixels", "orange"),
    ]
    picture = _against_iteration(rows, curves, "convergence", alt, "objective a pixel")
    keys = ("iteration", "objective_per_pixel", "held_out_per_pixel", "sigma_z", "largest_gradient")
    return Figure("Convergence of stage 2.", alt, picture, _numbers("convergence", rows, keys))


def _middles(shells: Rows) -> FloatArray:
    return np.array([(shell["d_max"] ** -2 + shell["d_min"] ** -2) / 2 for shell in shells])


def _finish(axes: Axes, shells: Rows) -> None:
    resolution_axis(axes, (shells[0]["d_max"], shells[-1]["d_min"]))
    axes.legend()


def _offsets(before: Rows, after: Rows) -> Figure:
    alt = "Root mean square offsets of observed from modelled spots against resolution."
    with canvas() as figure:
        axes = figure.subplots()
        for shells, word, style in ((before, "before", "--"), (after, "stage 1", "-")):
            _line(axes, _middles(shells), _column(shells, "radial_px"), f"radial, {word}", "blue", style)
            _line(axes, _middles(shells), _column(shells, "transverse_px"), f"transverse, {word}", "orange", style)
        axes.set_ylim(0, None)
        axes.set_ylabel("pixels")
        _finish(axes, after)
        picture = svg(figure, "offsets", alt)
    keys = ("d_max", "d_min", "n", "radial_px", "transverse_px")
    return Figure("A: prediction offsets by resolution.", alt, picture, _numbers("offsets", after, keys))


def _by_resolution(start: Rows, end: Rows) -> Figure:
    alt = "R factor and correlations with the truth against resolution, before and after stage 2."
    with canvas() as figure:
        axes = figure.subplots()
        for shells, word, style in ((start, "start", "--"), (end, "refined", "-")):
            _line(axes, _middles(shells), _column(shells, "r_factor"), f"R, {word}", "orange", style)
            _line(axes, _middles(shells), _column(shells, "cc"), f"CC, {word}", "green", style)
            _line(axes, _middles(shells), _column(shells, "cc_anomalous"), f"CC anom., {word}", "purple", style)
        _finish(axes, end)
        picture = svg(figure, "amplitudes", alt)
    keys = ("d_max", "d_min", "n", "r_factor", "cc", "n_anomalous", "cc_anomalous")
    caption = "D and E: amplitudes and Bijvoet differences against the truth, by resolution."
    return Figure(caption, alt, picture, _numbers("amplitudes", end, keys))


def _by_iteration(rows: Rows) -> Figure:
    alt = "Correlations of amplitudes and Bijvoet differences with the truth against iteration."
    curves = [
        ("cc", "CC of |F|", "green"),
        ("cc_anomalous", "CC of Bijvoet differences", "purple"),
        ("r_factor", "R", "orange"),
    ]
    picture = _against_iteration(rows, curves, "iterations", alt)
    keys = ("iteration", "sigma_z", "r_factor", "cc", "cc_anomalous")
    return Figure("C, D and E by iteration of stage 2.", alt, picture, _numbers("iterations", rows, keys))


def _peaks(merged: Rows, refined: Rows) -> Table:
    before = {peak["site"]: text(peak["sigmas"], 3) for peak in merged}
    rows = tuple((peak["site"], before.get(peak["site"], ""), text(peak["sigmas"], 3)) for peak in refined)
    return Table("E: anomalous map at heavy atoms, σ", ("site", "merged", "refined"), rows)
