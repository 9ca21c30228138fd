"""The step harness: no-op on the same request, resume, removal of stale results, and what a kill leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field

from exafel.config.base import Model
from exafel.errors import ConfigError, ExafelError, InputError
from exafel.io.events import Stage, read_events
from exafel.io.manifest import read_manifest, verify_containers
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.launch import launch
from exafel.parallel.spool import ChunkSpool, read_spool
from exafel.steps.base import StepRequest, StepRun, StepSummary, plan


class CountConfig(Model):
    upto: int = Field(3, description="How far to count.")


class CountSummary(StepSummary):
    total: int


class KilledError(Exception):
    pass


def count(request: StepRequest, comm: Communicator, *, die_at: int | None = None) -> CountSummary:
    """A small step: each rank writes its numbers, resuming from its spool."""
    config = request.config
    assert isinstance(config, CountConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(CountSummary)
        path = step.work / f"rank-{comm.rank:05d}.spool"
        done = [int(record) for record in read_spool(path)] if path.exists() else []
        with ChunkSpool(path) as spool, step.phase("count"):
            for number in range(comm.rank, config.upto, comm.size):
                if number == die_at:
                    raise KilledError
                if number not in done:
                    spool.append(b"%d" % number)
                    step.emit(Stage.DONE, number, 1, "")
        numbers = [int(record) for record in read_spool(path)]
        out = step.out / f"rank-{comm.rank:05d}.json"
        out.write_text(json.dumps(numbers))
        step.add_container(out, "json", rows=len(numbers))
        total = sum(comm.allgather(sum(numbers)))
        return step.finish(CountSummary(total=total))


def request_for(folder: Path, upto: int = 5) -> StepRequest:
    source = folder / "input.txt"
    if not source.exists():
        source.write_text("input")
    return StepRequest("count", CountConfig(upto=upto), {"images": (source,)}, folder / "out")


def test_a_finished_step_is_not_run_again(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    assert plan(request)["would"] == "run"
    first = launch(count, request)
    assert (first.total, first.up_to_date) == (10, False)
    written = (request.out / "manifest.json").stat().st_mtime_ns
    again = launch(count, request)
    assert (again.total, again.up_to_date) == (10, True)
    assert (request.out / "manifest.json").stat().st_mtime_ns == written
    assert plan(request)["would"].startswith("nothing")


@pytest.mark.parametrize("change", ["config", "input", "container"])
def test_any_change_runs_it_again(tmp_path: Path, change: str) -> None:
    request = request_for(tmp_path)
    launch(count, request, ranks=2)
    if change == "config":
        request = request_for(tmp_path, upto=6)
    elif change == "input":
        (tmp_path / "input.txt").write_text("another input")
    else:
        (request.out / "rank-00000.json").unlink()
    summary = launch(count, request)
    assert not summary.up_to_date
    manifest = read_manifest(request.out)
    verify_containers(request.out, manifest)
    files = sorted(path.name for path in request.out.iterdir() if path.is_file())
    if change != "container":
        assert files == ["manifest.json", "rank-00000.json"], "the older run's second rank has left nothing"
    assert summary.total == (15 if change == "config" else 10)


def test_a_killed_step_goes_on_where_it_was(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    with pytest.raises(KilledError):
        count(request, SerialComm(), die_at=3)
    with pytest.raises(InputError, match="has not finished"):
        read_manifest(request.out)
    assert plan(request)["would"] == "resume"
    assert launch(count, request).total == 10
    events = read_events(request.out / "events" / "rank-00000.events")
    assert sorted(events["shot"].tolist()) == [0, 1, 2, 3, 4], "no shot was done twice"
    assert not (request.out / ".work").exists()


def test_work_of_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        count(request_for(tmp_path, upto=5), SerialComm(), die_at=3)
    assert launch(count, request_for(tmp_path, upto=4)).total == 6


def test_a_folder_that_another_run_writes_is_refused_until_that_ends(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    with StepRun(request, SerialComm()), pytest.raises(ExafelError, match="another run is writing here"):
        count(request, SerialComm())
    assert count(request, SerialComm()).total == 10


def test_the_manifest_says_what_was_done(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    launch(count, request, ranks=2)
    manifest = read_manifest(request.out)
    assert manifest.config == {"upto": 5}
    assert [item.rank for item in manifest.containers] == [0, 1]
    assert sum(item.rows for item in manifest.containers) == 5
    assert manifest.files(request.out, "json")[1] == request.out / "rank-00001.json"
    ranks = manifest.timings_s["ranks"]
    assert [entry["rank"] for entry in ranks] == [0, 1]
    assert all(entry["phases"]["count"]["wall_s"] >= 0 for entry in ranks)


class LongerSummary(StepSummary):
    total: int
    mean: float


@pytest.mark.parametrize("damage", ["another version", "cut"])
def test_a_manifest_of_no_use_is_named_with_the_way_out(tmp_path: Path, damage: str) -> None:
    request = request_for(tmp_path)
    launch(count, request)
    manifest = request.out / "manifest.json"
    if damage == "cut":
        manifest.write_text(manifest.read_text()[:100])
        with pytest.raises(InputError, match=r"manifest\.json.*delete it and run"):
            launch(count, request)
    else:
        with (
            StepRun(request, SerialComm()) as step,
            pytest.raises(InputError, match=r"manifest\.json: written by another version.*delete it and run"),
        ):
            step.up_to_date(LongerSummary)
    manifest.unlink()
    assert not launch(count, request).up_to_date


def test_the_folder_of_another_step_is_refused(tmp_path: Path) -> None:
    request = request_for(tmp_path)
    launch(count, request)
    with pytest.raises(ConfigError, match="holds the results of 'count'"):
        launch(count, StepRequest("other", request.config, request.inputs, request.out))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    request = StepRequest("count", CountConfig(), {"images": (tmp_path / "absent",)}, tmp_path / "out")
    with pytest.raises(InputError, match="absent"):
        launch(count, request)
