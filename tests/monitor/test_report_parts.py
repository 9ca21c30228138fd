"""Parts of the report: numbers for people and for programs, parameters, weather, timings, rates."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.config.merge import MergeConfig
from exafel.config.stills import StillsConfig
from exafel.io.events import EVENT_DTYPE, Stage
from exafel.io.manifest import Manifest
from exafel.monitor.report.blocks import Numbers, Section, Table, plain, text
from exafel.monitor.report.charts import COLOURS, bin_edges, bins_of, canvas, resolution_axis, svg
from exafel.monitor.report.parameters import step_parameters
from exafel.monitor.report.rates import outcome_counts, rates, rates_section
from exafel.monitor.report.timings import by_phase, rank_phases
from exafel.monitor.report.trial import StepFolder, Trial
from exafel.monitor.report.weather import five_numbers, shot_times, weather_section
from exafel.monitor.spool import EventSpool

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_plain_data_is_what_json_can_hold(value: Any) -> None:
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


def test_plain_takes_numpy() -> None:
    data = {"a": np.array([1.0, np.nan]), "b": np.int32(3), "c": (np.bool_(True), Path("x"))}
    assert plain(data) == {"a": [1.0, None], "b": 3, "c": [True, "x"]}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (math.nan, "–"), ("", ""), (0, "0"), (1234567, "1 234 567"), (0.123456, "0.1235"),
        (12345.6, "12 346"), (2.0, "2"), (True, "yes"), ([1, None], "1, –"), ({"a": 1}, "a 1"),
    ],
)  # fmt: skip
def test_what_people_read(value: Any, shown: str) -> None:
    assert text(value).replace("\u202f", " ") == shown


@given(st.lists(st.tuples(st.integers(), st.floats(), st.text(st.characters(exclude_categories=["C"]))), max_size=6))
def test_csv_and_json_hold_the_same_rows(rows: list[tuple[int, float, str]]) -> None:
    numbers = Numbers("n", {name: [row[i] for row in rows] for i, name in enumerate(("a", "b", "c"))})
    read = list(csv.DictReader(io.StringIO(numbers.as_csv())))
    assert len(read) == len(rows)
    for row, (a, b, c) in zip(read, rows, strict=True):
        assert int(row["a"]) == a
        assert row["c"] == c
        assert float(row["b"]) == b if math.isfinite(b) else row["b"] == ""


def test_columns_of_one_figure_have_one_length() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Numbers("n", {"a": [1], "b": [1, 2]})


def test_columns_of_numbers_are_found() -> None:
    table = Table(
        "t", ("name", "n", "share", "words", "partly"), (("1", 1000, "1.5 %", "x", 3), ("2", 2, None, "y", "z"))
    )
    assert [table.is_numeric(column) for column in range(5)] == [False, True, True, False, False]


def test_parameters_are_compared_with_their_defaults() -> None:
    config = MergeConfig.model_validate({"d_min": 2.5, "error": {"model": "none"}, "scaling": {"mtz_column": "I"}})
    found = {item.key: item for item in step_parameters("merge", config.model_dump(mode="json"))}
    assert {key for key, item in found.items() if item.changed} == {"d_min", "error.model", "scaling.mtz_column"}
    assert found["minimum_multiplicity"].default == 2
    assert found["d_min"].description.startswith("High resolution limit")


def test_variants_that_are_the_default_are_not_marked() -> None:
    for name, config in (("merge", MergeConfig()), ("stills", StillsConfig())):
        parameters = step_parameters(name, config.model_dump(mode="json"))
        assert parameters
        assert [item.key for item in parameters if item.changed] == []


def test_parameters_of_an_unknown_step_are_shown_as_they_are() -> None:
    found = step_parameters("elsewhere", {"a": {"b": 1}})
    assert [(item.key, item.value, item.changed) for item in found] == [("a.b", 1, False)]


def emit_shots(folder: Path, rank: int, shots: list[tuple[int, str | None]]) -> Path:
    """Write events by the real spool: each shot with its outcome, None where it was not ended."""
    path = folder / "stills" / "events" / f"rank-{rank:05d}.events"
    spool = EventSpool(path, rank)
    for shot, outcome in shots:
        spool(Stage.START, shot)
        spool(Stage.SPOTFIND, shot, 30)
        if outcome is not None:
            spool(
                Stage.DONE if outcome == "integrated" else Stage.FAIL,
                shot,
                1,
                "" if outcome == "integrated" else outcome,
            )
    spool.close()
    return path


def test_weather_of_real_events(tmp_path: Path) -> None:
    emit_shots(tmp_path, 0, [(0, "integrated"), (2, "no_hit"), (4, None)])
    emit_shots(tmp_path, 1, [(1, "not_indexed"), (3, "integrated")])
    step = StepFolder("stills", tmp_path / "stills", "unfinished")
    section = weather_section(Trial("d", "t", {"stills": step}))
    assert section is not None
    assert (section.numbers["n_shots"], section.numbers["n_ranks"], section.numbers["n_unfinished"]) == (5, 2, 1)
    dots = section.as_json()["figures"]["weather"]
    outcomes = dict(zip(dots["shot"], dots["outcome"], strict=True))
    assert outcomes == {0: "integrated", 1: "not_indexed", 2: "no_hit", 3: "integrated", 4: ""}
    assert "not ended" in section.as_json()["notes"][0]


def events_of(n_shots: int, n_ranks: int) -> Any:
    """Events of shots of one second each, dealt out to ranks, two ranks a host."""
    records = np.zeros(2 * n_shots, dtype=EVENT_DTYPE)
    shot = np.repeat(np.arange(n_shots), 2)
    records["magic"] = b"EV"
    records["shot"], records["rank"] = shot, shot % n_ranks
    records["host"] = np.char.add("node", (shot % n_ranks // 2).astype("U")).astype("S")
    seconds = shot // n_ranks + np.tile([0.0, 0.75], n_shots)
    records["monotonic_s"] = seconds + 1000.0
    stamps = np.datetime64("2026-01-01T00:00:00.000000") + (seconds * 1e6).astype("timedelta64[us]")
    records["iso_time"] = np.char.add(stamps.astype("U"), "Z").astype("S")
    records["stage"] = np.tile([Stage.START, Stage.DONE], n_shots)
    return records


def test_times_of_shots() -> None:
    shots = shot_times(events_of(12, 4))
    assert shots["seconds"].to_numpy() == pytest.approx(0.75)
    assert shots["end_s"].max() == pytest.approx(2.75)
    assert sorted(shots["host"].unique()) == ["node0", "node1"]
    again = np.concatenate([events_of(12, 4), events_of(4, 4)])  # a rank that was resumed did four shots once more
    assert len(shot_times(again)) == 12
    assert len(shot_times(np.zeros(0, EVENT_DTYPE))) == 0


def test_weather_of_many_shots_stays_small(tmp_path: Path) -> None:
    folder = tmp_path / "stills" / "events"
    folder.mkdir(parents=True)
    (folder / "rank-00000.events").write_bytes(events_of(20_000, 64).tobytes())
    section = weather_section(Trial("d", "t", {"stills": StepFolder("stills", tmp_path / "stills", "unfinished")}))
    assert section is not None
    assert section.numbers["n_hosts"] == 32
    data = section.as_json()
    assert len(data["figures"]["weather"]["rank"]) == 64, "one row a rank, not one a shot"
    assert len(json.dumps(data)) < 20_000
    assert len(section.blocks[0].svg) < 400_000


def test_five_numbers() -> None:
    assert list(five_numbers(np.array([1.0, np.nan, 2.0, 3.0, 4.0, 5.0])).values()) == [1, 2, 3, 4, 5]
    assert set(five_numbers(np.array([np.nan])).values()) == {None}


def test_phases_inside_the_loop_over_shots_are_not_counted_twice() -> None:
    phases = {
        "open": {"wall_s": 1.0, "cpu_s": 0.5},
        "shots": {"wall_s": 10.0, "cpu_s": 7.0},
        "index": {"wall_s": 4.0, "cpu_s": 4.0},
        "read": {"wall_s": 2.0, "cpu_s": 2.0},
    }
    manifest = Manifest(
        step="stills", engine_version="1", software_version="1", fingerprint="", config={},
        summary={"cpu_s_per_phase": {"index": 1.0, "read": 1.0}},
        timings_s={"ranks": [{"rank": 0, "wall_s": 12.0, "cpu_s": 8.0, "phases": phases}]},
    )  # fmt: skip
    table = by_phase(rank_phases(StepFolder("stills", Path(), "finished", manifest)))
    assert list(table["phase"]) == ["open", "read", "index", "rest of shots", "other"]
    assert list(table["wall_mean"]) == [1.0, 2.0, 4.0, 4.0, 1.0]
    assert list(table["cpu_sum"]) == [0.5, 2.0, 4.0, 1.0, 0.5]


@pytest.mark.parametrize("phase", ["index", "dials"])
def test_phases_of_a_rank_never_add_up_to_more_than_its_wall_time(phase: str) -> None:
    """Shots of an interrupted run, and another engine's processes, bring CPU time that this loop did not take."""
    phases = {
        "open": {"wall_s": 1.0, "cpu_s": 0.5},
        "shots": {"wall_s": 10.0, "cpu_s": 2.0},
        "read": {"wall_s": 5.0, "cpu_s": 5.0},
        phase: {"wall_s": 20.0, "cpu_s": 20.0},
    }
    manifest = Manifest(
        step="stills", engine_version="1", software_version="1", fingerprint="", config={},
        summary={"cpu_s_per_phase": {"read": 1.0, phase: 4.0}},
        timings_s={"ranks": [{"rank": 0, "wall_s": 12.0, "cpu_s": 3.0, "phases": phases}]},
    )  # fmt: skip
    table = by_phase(rank_phases(StepFolder("stills", Path(), "finished", manifest))).set_index("phase")
    assert table["wall_mean"].to_dict() == {"open": 1.0, "read": 2.0, phase: 8.0, "rest of shots": 0.0, "other": 1.0}
    assert table.loc[phase, "cpu_sum"] == 20.0


OUTCOME_NAMES = ["integrated", "not_indexed", "no_hit", "read_failed", "integrate_failed", "refine_failed", "invented"]


@given(st.lists(st.sampled_from(OUTCOME_NAMES), min_size=1, max_size=50))
def test_rates_are_consistent(outcomes: list[str]) -> None:
    shots = pd.DataFrame({"outcome": outcomes, "reason": ""})
    assert sum(outcome_counts(shots).values()) == len(outcomes)
    found = rates(shots)
    assert found["hit_rate"] is not None
    assert found["indexed_of_shots"] is not None
    if found["indexed_of_hits"] is not None:
        assert found["indexed_of_hits"] * found["hit_rate"] == pytest.approx(found["indexed_of_shots"])


def test_rates_along_the_run_add_up() -> None:
    outcomes = np.array(["no_hit"] * 40 + ["integrated"] * 30 + ["not_indexed"] * 30)
    shots = pd.DataFrame({"outcome": outcomes, "reason": ""})
    trial = Trial("d", "t", {"stills": StepFolder("stills", Path(), "unfinished")})
    section = rates_section(trial, shots, 7)
    assert section is not None
    bins = section.as_json()["figures"]["rates"]
    sizes = [last - first + 1 for first, last in zip(bins["first_shot"], bins["last_shot"], strict=True)]
    assert sum(sizes) == 100
    assert sum(size * rate for size, rate in zip(sizes, bins["hit_rate"], strict=True)) == pytest.approx(60)
    assert sum(size * rate for size, rate in zip(sizes, bins["indexed_of_shots"], strict=True)) == pytest.approx(30)
    assert bins["indexed_of_hits"][0] is None, "no hit there: no rate"


@given(st.integers(1, 5000), st.integers(1, 200))
def test_bins_along_the_run_cover_it(n: int, n_bins: int) -> None:
    edges = bin_edges(n, n_bins)
    assert (edges[0], edges[-1]) == (0, n)
    assert np.ptp(np.diff(edges)) <= 1
    assert len(edges) - 1 == min(n, n_bins)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(2, 60))
def test_limits_of_histograms_rise(data: list[float], n_bins: int) -> None:
    limits = bins_of(np.array(data), n_bins)
    assert (np.diff(limits) > 0).all()
    assert len(limits) - 1 <= n_bins


def test_charts_take_the_colours_of_the_page() -> None:
    with canvas() as figure:
        axes = figure.subplots()
        axes.plot([0.01, 0.25], [1, 2], color=COLOURS["blue"])
        axes.set_title("R&D < 3")
        resolution_axis(axes, (10.0, 2.0))
        labels = [label.get_text() for label in axes.get_xticklabels()]
        code = svg(figure, "name", 'a "picture"')
    assert labels[0] == "10"
    assert labels[-1] == "2"
    assert "var(--blue)" in code
    assert not [colour for colour in COLOURS.values() if colour in code]
    assert "R&amp;D &lt; 3" in code
    assert 'aria-label="a &quot;picture&quot;"' in code
    assert code.count('id="') == code.count('id="name-')


def test_a_section_without_pictures_is_plain_data() -> None:
    section = Section("key", "Title", numbers={"x": np.float64("nan")})
    section.note("words")
    assert section.as_json() == {"x": None, "figures": {}, "notes": ["words"]}
