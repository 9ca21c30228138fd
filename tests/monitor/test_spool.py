"""The event spool: fixed-size records that read back, whatever a kill cut off."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from exafel.io.events import EVENT_DTYPE, Stage, read_events
from exafel.monitor.spool import EventSpool


def test_records_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events" / "rank-00003.events"
    spool = EventSpool(path, rank=3)
    spool(Stage.START, 7)
    spool(Stage.FAIL, 7, 12, "not_indexed")
    spool.close()
    events = read_events(path)
    assert EVENT_DTYPE.itemsize == 128
    assert path.stat().st_size == 256
    assert events["stage"].tolist() == [Stage.START, Stage.FAIL]
    assert events["rank"].tolist() == [3, 3]
    assert events["count"].tolist() == [0, 12]
    assert events["reason"][1] == b"not_indexed"
    assert events["monotonic_s"][1] >= events["monotonic_s"][0]
    assert datetime.fromisoformat(events["iso_time"][0].decode()).utcoffset() is not None


def test_a_second_writer_appends_and_a_cut_record_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rank-00000.events"
    for shot in range(3):
        spool = EventSpool(path, rank=0)
        spool(Stage.DONE, shot)
        spool.close()
    path.write_bytes(path.read_bytes()[:-5])
    np.testing.assert_array_equal(read_events(path)["shot"], [0, 1])


def test_long_words_are_cut_to_their_field(tmp_path: Path) -> None:
    path = tmp_path / "rank-00000.events"
    spool = EventSpool(path, rank=0)
    spool(Stage.FAIL, 1, 0, "x" * 100)
    spool.close()
    assert read_events(path)["reason"][0] == b"x" * 36
