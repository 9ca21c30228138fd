"""DIALS as engine: real dials.stills_process on real images, judged by what it writes.

Debian's build lacks the module xfel_mono_sim_ext, so the tests of success put an empty module of that name on the path:
DIALS imports the package that wants it, but uses only Python code of that package.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exafel.config.base import validate
from exafel.config.stills import StillsConfig
from exafel.engines.base import ShotResult, StillsJob
from exafel.engines.dials import PROGRAM, DialsStills
from exafel.errors import EngineError
from exafel.io.events import Stage, no_event
from exafel.io.frames import open_frames
from exafel.io.source import FrameSource

SPOTFINDING = {"gain": 25.0, "global_threshold": 100.0, "min_spot_size": 2}
INDEXING = {"unit_cell": [92.9, 92.9, 130.4, 90, 90, 120], "space_group": "P6122"}
FIRST = "idx-20130301060858401.cbf"


@pytest.fixture
def job(tmp_path: Path) -> Callable[[FrameSource], StillsJob]:
    dials = {"indexing.refinement_protocol.d_min_start": 1.7}
    config = validate(
        StillsConfig, {"engine": "dials", "spotfinding": SPOTFINDING, "indexing": INDEXING, "dials": dials}
    )

    def make(source: FrameSource) -> StillsJob:
        return StillsJob(source, range(len(source)), config, tmp_path / "work", tmp_path / "logs" / "dials.log")

    return make


@pytest.fixture
def complete_dials(dials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DIALS that can index stills."""
    try:
        DialsStills().check()
    except EngineError:
        folder = tmp_path / "modules"
        folder.mkdir()
        (folder / "xfel_mono_sim_ext.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(folder))
        DialsStills().check()


@pytest.fixture
def incomplete_dials(dials: Path) -> None:
    """A DIALS that cannot, such as Debian's."""
    try:
        DialsStills().check()
    except EngineError:
        return
    pytest.skip("this DIALS has the xfel extensions")


@pytest.mark.dials
def test_the_version_is_its_own_word(dials: Path) -> None:
    assert DialsStills().version().startswith("DIALS 3.")


def test_a_missing_program_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"dials\.stills_process is not installed here \(use engine native"):
        DialsStills().version()


@pytest.mark.dials
def test_a_build_that_cannot_index_is_found_before_the_run(incomplete_dials: None) -> None:
    with pytest.raises(EngineError) as caught:
        DialsStills().check()
    message = str(caught.value)
    assert "\n" not in message
    assert PROGRAM in message
    assert "this build of DIALS 3" in message
    assert "lacks the module xfel_mono_sim_ext" in message
    assert "use engine native" in message


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
def test_a_build_that_cannot_index_is_found_by_its_outputs_though_it_exits_with_zero(
    incomplete_dials: None, job: Callable[[FrameSource], StillsJob], shared_data: Path
) -> None:
    work = job(open_frames([shared_data / "cspad_thermolysin" / FIRST]))
    with pytest.raises(EngineError, match="lacks the module xfel_mono_sim_ext"):
        DialsStills().run(work, no_event, lambda count: None)
    assert "indexing_failed" in (work.work / "debug" / "debug_0.txt").read_text()
    assert not list(work.work.glob("*.expt"))


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
def test_shots_are_integrated_and_a_damaged_one_is_kept_from_dials(
    complete_dials: None, job: Callable[[FrameSource], StillsJob], shared_data: Path, tmp_path: Path
) -> None:
    good = shared_data / "cspad_thermolysin" / FIRST
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(good, images)
    (images / "cut_short.cbf").write_bytes(good.read_bytes()[:300_000])
    work = job(open_frames([images]))
    heard: list[tuple[Stage, int]] = []
    counts: list[int] = []

    output = DialsStills().run(work, lambda stage, shot, count, reason: heard.append((stage, shot)), counts.append)

    damaged, integrated = sorted(output.results, key=lambda result: result.shot)
    assert (damaged.outcome, damaged.shot) == ("read_failed", 0)
    assert (integrated.outcome, integrated.shot) == ("integrated", 1)
    assert 600 < integrated.count < 1000, "the peer integrates 853 reflections of this image"
    assert output.expt is not None
    assert output.refl is not None
    assert output.refl.is_file()
    assert heard[0] == (Stage.FAIL, 0)
    assert [stage for stage, shot in heard if shot == 1] == [
        Stage.START,
        Stage.SPOTFIND,
        Stage.INDEX,
        Stage.REFINE,
        Stage.INTEGRATE,
        Stage.DONE,
    ]
    assert (counts[0], counts[-1]) == (1, 2)
    assert "d_min_start = 1.7" in work.log.read_text()

    written = output.expt.stat().st_mtime_ns
    again = DialsStills().run(work, no_event, lambda count: None)
    assert again == output
    assert output.expt.stat().st_mtime_ns == written, "complete work is not done twice"


TAGS = {f"thau_3_2_{number:04d}.cbf": number for number in range(3)}
DEBUG = """\
host,thau_3_2_0000.cbf,2026-11-22T08:32Z31.072,    ,start
host,thau_3_2_0000.cbf,2026-11-22T08:32Z39.072,done,integrate_ok_2230
host,thau_3_2_0001.cbf,2026-11-22T08:32Z39.073,    ,start
host,thau_3_2_0001.cbf,2026-11-22T08:32Z40.000,stop,not_enough_spots_7
"""


def _written_by_dials(folder: Path, *, debug: str) -> None:
    (folder / "debug").mkdir()
    (folder / "debug" / "debug_0.txt").write_text(debug)


@pytest.mark.data
def test_files_that_dials_wrote_are_collected(shared_data: Path, tmp_path: Path) -> None:
    for file in (shared_data / "dials_thaumatin").glob("idx-0000_integrated.*"):
        shutil.copy(file, tmp_path)
    _written_by_dials(tmp_path, debug=DEBUG)
    output = DialsStills().collect(tmp_path, TAGS, tmp_path / "dials.log")
    assert output.results == (
        ShotResult(0, "integrated", 2230),
        ShotResult(1, "no_hit", 7, "not_enough_spots"),
        ShotResult(2, "read_failed", reason="DIALS cannot load the image"),
    )
    assert output.expt == tmp_path / "idx-0000_integrated.expt"
    assert output.refl == tmp_path / "idx-0000_integrated.refl"


def test_no_lattice_at_all_is_an_answer(tmp_path: Path) -> None:
    _written_by_dials(tmp_path, debug="".join(DEBUG.splitlines(keepends=True)[2:]))
    output = DialsStills().collect(tmp_path, {"thau_3_2_0001.cbf": 1}, tmp_path / "dials.log")
    assert (output.results[0].outcome, output.expt, output.refl) == ("no_hit", None, None)


def test_shots_without_an_end_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has not processed 3 of 3 shots"):
        DialsStills().collect(tmp_path, TAGS, tmp_path / "dials.log")
    _written_by_dials(tmp_path, debug="".join(DEBUG.splitlines(keepends=True)[:1]))
    with pytest.raises(EngineError, match="has not processed 1 of 3 shots"):
        DialsStills().collect(tmp_path, TAGS, tmp_path / "dials.log")


def test_lattices_that_were_integrated_and_not_written_are_an_error(tmp_path: Path) -> None:
    _written_by_dials(tmp_path, debug=DEBUG)
    with pytest.raises(EngineError, match="integrated 1 shots and wrote no"):
        DialsStills().collect(tmp_path, TAGS, tmp_path / "dials.log")
