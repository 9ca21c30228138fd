"""What DIALS' debug files say, read from text in their format."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.engines.dials_debug import OUTCOMES, DebugTail, by_tag, parse_debug
from exafel.io.events import Stage

TEXT = """\
node1,shot_1,2026-11-22T08:32Z31.072,    ,start
node1,shot_1,2026-11-22T08:32Z31.073,    ,spotfind_start
node1,shot_1,2026-11-22T08:32Z31.500,stop,not_enough_spots_7
node1,shot_2,2026-11-22T08:32Z31.501,    ,start
node1,shot_2,2026-11-22T08:32Z31.502,    ,spotfind_start
node1,shot_2,2026-11-22T08:32Z32.000,    ,index_start
node1,shot_2,2026-11-22T08:32Z36.000,    ,refine_start
node1,shot_2,2026-11-22T08:32Z36.001,    ,integrate_start
node1,shot_2,2026-11-22T08:33Z00.250,done,integrate_ok_1345
"""


def test_events_are_read_in_order_with_their_counts_and_times() -> None:
    records = parse_debug(TEXT)
    assert len(records) == 9
    assert [record.event for record in records[:3]] == ["start", "spotfind_start", "not_enough_spots"]
    last = records[-1]
    assert (last.host, last.tag, last.count, last.outcome) == ("node1", "shot_2", 1345, "integrated")
    assert last.time == datetime(2026, 11, 22, 8, 33, 0, 250000, tzinfo=UTC)
    stages = [record.stage for record in records if record.tag == "shot_2"]
    assert stages == [Stage.START, Stage.SPOTFIND, Stage.INDEX, Stage.REFINE, Stage.INTEGRATE, Stage.DONE]
    assert {tag: events[-1].outcome for tag, events in by_tag(records).items()} == {
        "shot_1": "no_hit",
        "shot_2": "integrated",
    }


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        ("not_enough_spots_7", "no_hit", "not_enough_spots"),
        ("too_many_spots_9000", "no_hit", "too_many_spots"),
        ("indexing_failed_177", "not_indexed", "indexing_failed"),
        ("refine_failed_40", "refine_failed", "refine_failed"),
        ("integrate_failed_40", "integrate_failed", "integrate_failed"),
        ("spotfinding_exception", "read_failed", "spotfinding_exception"),
        ("integrate_ok_835", "integrated", ""),
        ("index_start", None, ""),
    ],
)
def test_the_last_event_decides_the_outcome(event: str, outcome: str | None, reason: str) -> None:
    (record,) = parse_debug(f"node1,shot_1,2026-11-22T08:32Z31.072,stop,{event}\n")
    assert (record.outcome, record.failure) == (outcome, reason)


def test_a_line_cut_short_and_an_empty_line_are_passed_over() -> None:
    cut = TEXT[: TEXT.rindex("done")]
    assert parse_debug(cut) == parse_debug(TEXT)[:-1]
    assert parse_debug("\n" + TEXT) == parse_debug(TEXT)
    assert parse_debug("") == []


def test_a_tag_may_hold_commas() -> None:
    (record,) = parse_debug("node1,run 1, shot 2,2026-11-22T08:32Z31.072,    ,start\n")
    assert record.tag == "run 1, shot 2"


@given(
    st.text("abcABC019_-. ,", min_size=1, max_size=20),
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),
    st.sampled_from(sorted(OUTCOMES)),
    st.integers(0, 10**6),
)
def test_any_line_of_the_format_comes_back(tag: str, time: datetime, event: str, count: int) -> None:
    time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    stamp = f"{time:%Y-%m-%dT%H:%M}Z{time:%S}.{time.microsecond // 1000:03d}"
    (record,) = parse_debug(f"node1,{tag},{stamp},done,{event}_{count}\n")
    assert (record.tag, record.time, record.event, record.count) == (tag, time.replace(tzinfo=UTC), event, count)


def test_the_tail_gives_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "debug_0.txt"
    tail = DebugTail(path)
    assert tail.read() == []
    cut = TEXT.index("shot_2") + 3
    path.write_text(TEXT[:cut])
    first = tail.read()
    assert len(first) == 3
    assert tail.read() == []
    path.write_text(TEXT)
    assert first + tail.read() == parse_debug(TEXT)
