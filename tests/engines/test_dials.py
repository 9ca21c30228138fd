"""DIALS as engine: real dials.stills_process on simulated stills, judged by what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from exafel.config.base import validate
from exafel.config.stills import StillsConfig
from exafel.engines.base import StillsJob
from exafel.engines.dials import PROGRAM, DialsStills
from exafel.errors import EngineError
from exafel.io.crystal import orthogonalization
from exafel.io.events import Stage, no_event
from exafel.io.experiment import experiment_identifier
from exafel.io.frames import open_frames
from exafel.io.reflections import Flag
from exafel.stills.misorientation import misorientation_deg

CONFIG = {
    "engine": "dials",
    "spotfinding": {"kernel_size": [4, 4], "sigma_strong": 5.0, "global_threshold": 10.0, "d_min": 1.9},
    "indexing": {"unit_cell": [79.1, 79.1, 38.4, 90, 90, 90], "space_group": "P43212"},
    "dials": {"profile.gaussian_rs.parameters.sigma_b_cutoff": 0.5},
}


@pytest.fixture
def job(shared_data: Path, tmp_path: Path) -> Callable[[Sequence[int]], StillsJob]:
    """Some of the 48 shots of one file."""
    source = open_frames([shared_data / "lysozyme_stills" / "lysozyme_stills.h5"])
    config = validate(StillsConfig, CONFIG)

    def make(shots: Sequence[int]) -> StillsJob:
        return StillsJob(source, shots, config, tmp_path / "work", tmp_path / "logs" / "dials.log")

    return make


@pytest.mark.dials
def test_the_version_is_its_own_word(dials: Path) -> None:
    assert DialsStills().version().startswith("DIALS 3.")


def test_a_missing_program_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"dials\.stills_process is not installed here \(use engine native"):
        DialsStills().version()


def test_a_program_that_is_no_dials_is_refused(tmp_path: Path) -> None:
    for name in (PROGRAM, "dials.version"):
        (tmp_path / name).write_text("#!/bin/sh\necho wrong program >&2\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(EngineError, match=r"does not say its version \(wrong program\)"):
        DialsStills(tmp_path / PROGRAM).version()


@pytest.mark.dials
def test_a_build_that_cannot_index_is_found_before_the_run(incomplete_dials: None) -> None:
    with pytest.raises(EngineError) as caught:
        DialsStills().check()
    message = str(caught.value)
    assert "\n" not in message
    for words in (PROGRAM, "DIALS 3", "lacks the module xfel_mono_sim_ext", "use engine native"):
        assert words in message


@pytest.mark.dials
@pytest.mark.data
def test_a_build_that_cannot_index_is_found_by_its_outputs_though_it_exits_with_zero(
    incomplete_dials: None, job: Callable[[Sequence[int]], StillsJob]
) -> None:
    work = job([3])
    with pytest.raises(EngineError, match="lacks the module xfel_mono_sim_ext"):
        DialsStills().run(work, no_event, lambda count: None)
    assert "indexing_failed" in (work.work / "debug" / "debug_0.txt").read_text()
    assert not list(work.work.glob("*.expt"))


@pytest.mark.dials
@pytest.mark.data
def test_a_run_that_fails_says_where_its_log_is(
    complete_dials: None, job: Callable[[Sequence[int]], StillsJob]
) -> None:
    work = job([3])
    config = work.config.model_copy(update={"dials": {"spotfinder.lookup.mask": "absent.mask"}})
    work = StillsJob(work.source, work.shots, config, work.work, work.log)
    with pytest.raises(EngineError, match=r"dials\.log: dials\.stills_process ended with exit code 1 .*absent\.mask"):
        DialsStills().run(work, no_event, lambda count: None)


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
def test_chosen_shots_of_a_file_are_integrated(
    complete_dials: None, job: Callable[[Sequence[int]], StillsJob], shared_data: Path
) -> None:
    work = job([7, 3])
    truth = json.loads((shared_data / "lysozyme_stills" / "truth.json").read_text())
    heard: list[tuple[Stage, int]] = []
    counts: list[int] = []

    results = DialsStills().run(work, lambda stage, shot, count, reason: heard.append((stage, shot)), counts.append)

    assert [(result.shot, result.outcome, result.reason) for result in results] == [
        (3, "integrated", ""),
        (7, "integrated", ""),
    ]
    for result in results:
        (lattice,) = result.lattices
        crystal = lattice.experiment.crystal
        assert crystal is not None
        true = truth["images"][result.shot]
        np.testing.assert_allclose(crystal.cell, true["cell"], rtol=3e-3)
        true_A = np.array(true["U"]) @ np.linalg.inv(orthogonalization(true["cell"])).T
        assert misorientation_deg(crystal.A, true_A, crystal.space_group) < 0.1
        assert crystal.space_group.hm == "P 43 21 2"
        assert lattice.experiment.image == work.source.image(result.shot)
        identifier = experiment_identifier(lattice.experiment.image, 0)
        assert lattice.experiment.identifier == identifier
        assert lattice.integrated.identifiers == lattice.indexed.identifiers == {0: identifier}
        assert lattice.integrated.has_flag(Flag.INTEGRATED_SUM).all()
        assert len(lattice.integrated) > 100
        assert len(result.spots) >= len(lattice.indexed) > 20
        offsets = lattice.indexed["xyzobs.px.value"] - lattice.indexed["xyzcal.px"]
        assert np.sqrt((offsets[:, :2] ** 2).mean()) < 1.0
        assert result.cpu_s > 0.5
    stages = [Stage.START, Stage.SPOTFIND, Stage.INDEX, Stage.REFINE, Stage.INTEGRATE, Stage.DONE]
    assert heard == [(stage, shot) for shot in (3, 7) for stage in stages]
    assert (counts[0], counts[-1]) == (0, 2)

    written = (work.work / "idx-0000_integrated.expt").stat().st_mtime_ns
    again = DialsStills().run(work, no_event, lambda count: None)
    assert [result.cpu_s for result in again] == [result.cpu_s for result in results]
    assert (work.work / "idx-0000_integrated.expt").stat().st_mtime_ns == written, "complete work is not done twice"
