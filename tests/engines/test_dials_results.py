"""Judging a run of DIALS by its debug file: what is an answer, and what is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.engines.dials_results import read_results
from exafel.errors import EngineError
from exafel.io.experiment import ImageRef

TAGS = {f"shot_{number}": number for number in range(3)}
IMAGES = {number: ImageRef(Path(f"shot_{number}.cbf")) for number in range(3)}
LINES = [
    "host,shot_0,2026-11-22T08:32Z31.072,    ,start\n",
    "host,shot_0,2026-11-22T08:32Z39.072,stop,not_enough_spots_7\n",
    "host,shot_1,2026-11-22T08:32Z39.073,    ,start\n",
    "host,shot_1,2026-11-22T08:32Z40.000,fail,spotfinding_exception\n",
    "host,shot_2,2026-11-22T08:32Z40.001,    ,start\n",
    "host,shot_2,2026-11-22T08:32Z44.000,done,integrate_ok_2230\n",
]


def read(work: Path, lines: list[str], n_shots: int = 3) -> list[tuple[int, str, str]]:
    (work / "debug").mkdir()
    (work / "debug" / "debug_0.txt").write_text("".join(lines))
    results = read_results(work, dict(list(TAGS.items())[:n_shots]), IMAGES, "P1")
    return [(result.shot, result.outcome, result.reason) for result in results]


def test_no_lattice_at_all_is_an_answer_with_reasons(tmp_path: Path) -> None:
    assert read(tmp_path, LINES[:4], 2) == [
        (0, "no_hit", "not enough spots"),
        (1, "read_failed", "spotfinding exception"),
    ]


def test_a_shot_that_dials_passes_over_could_not_be_loaded(tmp_path: Path) -> None:
    assert read(tmp_path, LINES[:2], 2)[1] == (1, "read_failed", "DIALS cannot load the image")


def test_a_run_that_came_to_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has not processed 3 of 3 shots"):
        read(tmp_path, [])


def test_a_shot_without_an_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has not processed 1 of 3 shots"):
        read(tmp_path, LINES[:5])


def test_lattices_that_were_integrated_and_not_written_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="integrated 1 shots that it has not written"):
        read(tmp_path, LINES)
