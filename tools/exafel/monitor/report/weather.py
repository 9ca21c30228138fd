"""Section: computational weather, the wall time of every shot on every rank, out of the event records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import InputError
from exafel.io.events import EVENT_DTYPE, Stage, read_events
from exafel.monitor.report.blocks import Figure, Numbers, Section, Table, text
from exafel.monitor.report.charts import COLOURS, OUTCOME_COLOURS, WIDE_INCHES, canvas, scatter, svg
from exafel.monitor.report.trial import StepFolder, Trial

_ENDS = (Stage.DONE, Stage.FAIL, Stage.SIMULATE)
_MOST_DOTS = 2000
"""Shots up to which the picture's numbers list every dot; beyond it, every rank."""


def weather_section(trial: Trial) -> Section | None:
    """Weather of the stills step, or of the simulation where that is all there is; None without event records."""
    for name in ("stills", "simulate"):
        step = trial.steps.get(name)
        events = np.zeros(0, EVENT_DTYPE) if step is None else step_events(step)
        shots = shot_times(events)
        if step is not None and len(shots):
            return _section(step, shots)
    return None


def step_events(step: StepFolder) -> AnyArray:
    """Event records of all ranks of a step, rank after rank."""
    paths = sorted((step.path / "events").glob("*.events"))
    return np.concatenate([np.zeros(0, EVENT_DTYPE), *(_events(path) for path in paths)])


def _events(path: Path) -> AnyArray:
    try:
        return read_events(path)
    except OSError as error:
        raise InputError(f"cannot read the events: {error.strerror}", where=path) from error


def shot_times(events: AnyArray) -> pd.DataFrame:
    """Begin and end of every shot.

    Parameters
    ----------
    events
        Records of `exafel.io.events.EVENT_DTYPE`.

    Returns
    -------
    One row a shot begun, in the order of ending, with ``rank``, ``host``, ``shot``, ``end_s`` (wall time since the
    first record of all), ``seconds`` (NaN where there is no record of its begin), ``outcome`` (empty for a shot that
    was begun and not ended).
    """
    frame = pd.DataFrame(
        {
            "rank": events["rank"].astype(np.int64),
            "shot": events["shot"].astype(np.int64),
            "stage": events["stage"].astype(np.int64),
            "wall_s": _wall_seconds(events),
            "monotonic_s": events["monotonic_s"].astype(np.float64),
            "host": np.char.decode(events["host"], "utf-8", "replace"),
            "reason": np.char.decode(events["reason"], "utf-8", "replace"),
        }
    )
    if not len(frame):
        return pd.DataFrame(columns=["rank", "host", "shot", "end_s", "seconds", "outcome"])
    starts = frame[frame["stage"] == Stage.START].drop_duplicates(["rank", "shot"], keep="last")
    last = frame.drop_duplicates(["rank", "shot"], keep="last")
    shots = last.merge(
        starts[["rank", "shot", "monotonic_s"]], on=["rank", "shot"], how="left", suffixes=("", "_start")
    )
    ended = shots["stage"].isin(_ENDS)
    good = np.where(shots["stage"] == Stage.SIMULATE, "simulated", "integrated")
    outcome = np.where(shots["stage"] == Stage.FAIL, shots["reason"].replace("", "failed"), good)
    return pd.DataFrame(
        {
            "rank": shots["rank"],
            "host": shots["host"],
            "shot": shots["shot"],
            "end_s": shots["wall_s"],
            "seconds": np.where(ended, shots["monotonic_s"] - shots["monotonic_s_start"], np.nan),
            "outcome": np.where(ended, outcome, ""),
        }
    ).sort_values("end_s", ignore_index=True)


def _wall_seconds(events: AnyArray) -> FloatArray:
    """Wall time since the first record, from the ISO times, which hosts share to the accuracy of their clocks."""
    stamps = np.char.decode(np.char.rstrip(events["iso_time"], b"Z"), "ascii").astype("datetime64[us]")
    return (stamps - stamps.min()).astype(np.float64) / 1e6 if len(stamps) else np.zeros(0)


def five_numbers(values: FloatArray) -> dict[str, float | None]:
    """Smallest, quartiles and largest of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    found = np.percentile(finite, [0, 25, 50, 75, 100]) if len(finite) else [None] * 5
    return dict(zip(names, found, strict=True))


def _by_rank(shots: pd.DataFrame) -> pd.DataFrame:
    groups = shots.groupby("rank", sort=True)
    return pd.DataFrame(
        {
            "rank": list(groups.groups),
            "host": groups["host"].first(),
            "shots": groups.size(),
            "unfinished": groups["outcome"].apply(lambda column: int((column == "").sum())),
            "first_end_s": groups["end_s"].min(),
            "last_end_s": groups["end_s"].max(),
            "median_seconds": groups["seconds"].median(),
        }
    ).reset_index(drop=True)


def _section(step: StepFolder, shots: pd.DataFrame) -> Section:
    section = Section("weather", "Computational weather")
    ranks = _by_rank(shots)
    summaries = {
        "seconds a shot": five_numbers(shots["seconds"].to_numpy(np.float64)),
        "shots a rank": five_numbers(ranks["shots"].to_numpy(np.float64)),
        "end of a rank (s)": five_numbers(ranks["last_end_s"].to_numpy(np.float64)),
    }
    section.numbers = {
        "step": step.name,
        "n_shots": len(shots),
        "n_ranks": len(ranks),
        "n_hosts": int(shots["host"].nunique()),
        "n_unfinished": int(ranks["unfinished"].sum()),
        "summaries": summaries,
    }
    section.add(_figure(step, shots, ranks))
    head = ("", "smallest", "lower quartile", "median", "upper quartile", "largest")
    rows = tuple((name, *(text(value, 3) for value in numbers.values())) for name, numbers in summaries.items())
    section.add(Table("Five-number summaries.", head, rows))
    unfinished = section.numbers["n_unfinished"]
    if unfinished:
        section.note(f"{unfinished} shots were begun and not ended (red crosses): a rank was stopped.", warning=True)
    return section


def _figure(step: StepFolder, shots: pd.DataFrame, ranks: pd.DataFrame) -> Figure:
    alt = f"Wall time at which each shot of the step {step.name} ended, by rank, coloured by outcome."
    row = dict(zip(ranks["rank"], range(len(ranks)), strict=True))
    with canvas(WIDE_INCHES, float(np.clip(1.4 + 0.12 * len(ranks), 1.9, 6.0))) as figure:
        axes = figure.subplots()
        place = shots["rank"].map(row).to_numpy(np.float64)
        size = 12.0 if len(shots) < 2000 else 4.0
        for outcome, group in shots.groupby("outcome", sort=False):
            x, y = group["end_s"].to_numpy(), place[group.index.to_numpy()]
            if outcome:
                scatter(axes, x, y, OUTCOME_COLOURS.get(str(outcome), "red"), str(outcome).replace("_", " "), size)
            else:
                axes.scatter(x, y, s=20, marker="x", color=COLOURS["red"], label="not ended", linewidths=1.2)
        _node_boundaries(axes, ranks)
        axes.set_ylim(-0.7, len(ranks) - 0.3)
        axes.set_xlim(left=0)
        axes.set_xlabel("wall time since the first shot began (s)")
        axes.set_ylabel("rank")
        axes.locator_params(axis="y", integer=True, nbins=8, min_n_ticks=1)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=7, markerscale=1.5)
        picture = svg(figure, "weather", alt)
    many = len(shots) > _MOST_DOTS
    columns = (ranks if many else shots.round(4)).to_dict("list")
    caption = (
        f"Every dot is a shot of the step {step.name} at the time it ended, on the rank that processed it. Gaps and "
        "late tails show ranks that waited or had slow shots. Horizontal lines part the nodes."
        + (" The numbers are those of the ranks, because there are too many shots to list." if many else "")
    )
    return Figure(
        caption, alt, picture, Numbers("weather", {str(key): values for key, values in columns.items()}), wide=True
    )


def _node_boundaries(axes: Axes, ranks: pd.DataFrame) -> None:
    hosts = ranks["host"].to_numpy()
    for number in np.flatnonzero(hosts[1:] != hosts[:-1]):
        axes.axhline(number + 0.5, color=COLOURS["soft"], linewidth=0.8)
