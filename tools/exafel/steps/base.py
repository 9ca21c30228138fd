"""What every step shares: its request, its run with resume and timings, its manifest and its summary.

A step module has a ``Summary`` model, ``request(config, ..., out) -> StepRequest`` and
``run(request, comm, hooks) -> Summary``. Rules, apps and the command line know nothing more of a step.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

import exafel
from exafel.config.base import Model
from exafel.errors import ConfigError, ExafelError, InputError
from exafel.io.events import Stage
from exafel.io.files import atomic_write, lock_folder
from exafel.io.manifest import (
    MANIFEST_NAME,
    Container,
    InputRecord,
    Manifest,
    describe_container,
    describe_input,
    fingerprint,
    read_manifest,
    verify_containers,
    write_manifest,
)
from exafel.monitor.spool import EventSpool
from exafel.parallel.comm import Communicator, from_root
from exafel.parallel.startup import startup_seconds
from exafel.steps.provenance import git_describe

SummaryT = TypeVar("SummaryT", bound="StepSummary")

WORK_NAME = ".work"
_FINGERPRINT = "fingerprint"


class StepSummary(Model):
    """What a step returns; each step's own model adds its numbers."""

    up_to_date: bool = False


@dataclass(frozen=True)
class StepRequest:
    """Everything that decides what a step does; it can be pickled to other ranks and workers.

    Parameters
    ----------
    step
        Name of the step.
    config
        The step's section of the configuration, with its defaults resolved.
    inputs
        Role to paths, such as ``{"stills": (folder,)}``.
    out
        Folder that the results go to.
    engine, engine_version
        What computes the step.
    """

    step: str
    config: Model
    inputs: Mapping[str, tuple[Path, ...]]
    out: Path
    engine: str = "native"
    engine_version: str = exafel.__version__

    def input_records(self) -> tuple[InputRecord, ...]:
        """Record every input.

        Raises
        ------
        InputError
            An input does not exist.
        """
        return tuple(describe_input(path) for paths in self.inputs.values() for path in paths)

    def fingerprint(self, records: tuple[InputRecord, ...]) -> str:
        """Hash of what decides the results."""
        return fingerprint(self.step, self.engine, self.config.model_dump(mode="json"), records)


class Progress(Protocol):
    """Where a long loop says how far all ranks together are."""

    def update(self, done: int, note: str = "") -> None:
        """Set how many are done, with a short note (rates, percentages)."""
        ...


class _NoProgress:
    def update(self, done: int, note: str = "") -> None:
        pass


def _no_progress(description: str, total: int) -> AbstractContextManager[Progress]:  # noqa: ARG001 - the hook's signature
    return nullcontext(_NoProgress())


def _no_note(line: str) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """How a step speaks to whoever drives it; the defaults are silent.

    Parameters
    ----------
    progress
        ``progress(description, total)`` opens a progress bar.
    note
        Takes one line worth reading, such as a batch's hit rate.
    """

    progress: Callable[[str, int], AbstractContextManager[Progress]] = _no_progress
    note: Callable[[str], None] = _no_note


QUIET = Hooks()


@dataclass
class Timings:
    """Wall and CPU seconds of this rank by phase."""

    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, name: str, wall_s: float, cpu_s: float) -> None:
        """Add to one phase."""
        entry = self.phases.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0})
        entry["wall_s"] += wall_s
        entry["cpu_s"] += cpu_s


class StepRun:
    """One run of a step on all ranks; used as a context around the step's work.

    Entering it finds out whether the work is done already, half done, or of another configuration: ``finished`` holds
    the manifest of a step that is up to date (then there is nothing to do), ``work`` is the folder for spools, emptied
    if they belong to another configuration. `finish` writes the manifest, last.

    Parameters
    ----------
    request
        What to do.
    comm
        The ranks.
    """

    def __init__(self, request: StepRequest, comm: Communicator) -> None:
        self.request = request
        self.comm = comm
        self.out = request.out
        self.work = request.out / WORK_NAME
        self.timings = Timings()
        self.finished: Manifest | None = None
        self._containers: list[Container] = []
        self._records: tuple[InputRecord, ...] = ()
        self._fingerprint = ""
        self._start = (time.perf_counter(), time.process_time())
        self._startup_s = startup_seconds(comm.start_s)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._events: EventSpool | None = None
        self._lock: int | None = None

    def __enter__(self) -> StepRun:
        try:
            self.finished, self._records, self._fingerprint = from_root(self.comm, self._prepare)
        except ExafelError:
            self._unlock()
            raise
        if self.finished is None:
            self._events = EventSpool(self.out / "events" / f"rank-{self.comm.rank:05d}.events", self.comm.rank)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self) -> tuple[Manifest | None, tuple[InputRecord, ...], str]:
        records = self.request.input_records()
        mark = self.request.fingerprint(records)
        self._lock = lock_folder(self.out)
        if (self.out / MANIFEST_NAME).is_file():
            manifest = read_manifest(self.out)
            if manifest.step != self.request.step:
                raise ConfigError(
                    f"the folder holds the results of '{manifest.step}'", where=self.out, hint="give another --out"
                )
            if manifest.fingerprint == mark and _intact(self.out, manifest):
                return manifest, records, mark
            _remove_results(self.out, manifest)
        known = self.work / _FINGERPRINT
        if not known.is_file() or known.read_text() != mark:
            shutil.rmtree(self.work, ignore_errors=True)
            shutil.rmtree(self.out / "events", ignore_errors=True)
            with atomic_write(known) as stream:
                stream.write(mark.encode())
        return None, records, mark

    def emit(self, stage: Stage, shot: int, count: int = 0, reason: str = "") -> None:
        """Write an event record; the callback for numerical code."""
        self._startup_s.setdefault("first_image", round(time.perf_counter() - self._start[0], 3))
        if self._events is not None:
            self._events(stage, shot, count, reason)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the wall and CPU time of the block under `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.timings.add(name, time.perf_counter() - wall, time.process_time() - cpu)

    def add_container(self, path: Path, kind: str, rows: int = 0) -> None:
        """Record a file that this rank wrote; it lies under `out`."""
        self._containers.append(describe_container(path, kind, folder=self.out, rank=self.comm.rank, rows=rows))

    def up_to_date(self, model: type[SummaryT]) -> SummaryT:
        """Return the summary of the finished run that makes this one needless.

        Raises
        ------
        InputError
            It was written by a version with another summary.
        """
        assert self.finished is not None
        try:
            return model.model_validate({**self.finished.summary, "up_to_date": True})
        except ValidationError as error:
            raise InputError(
                f"written by another version, {self.finished.software_version}",
                where=self.out / MANIFEST_NAME,
                hint="delete it and run the step again",
            ) from error

    def cpu_seconds(self) -> float:
        """CPU seconds that this rank has used since the step began."""
        return time.process_time() - self._start[1]

    def finish(self, summary: SummaryT) -> SummaryT:
        """Gather every rank's containers and timings, write the manifest, and return the summary on every rank."""
        rank_report = {
            "rank": self.comm.rank,
            "host": platform.node(),
            "started": self._started,
            "startup_s": self._startup_s,
            "wall_s": round(time.perf_counter() - self._start[0], 6),
            "cpu_s": round(self.cpu_seconds(), 6),
            "phases": self.timings.phases,
        }
        gathered = self.comm.gather((self._containers, rank_report))
        if gathered is not None:
            request = self.request
            write_manifest(
                self.out,
                Manifest(
                    step=request.step,
                    engine=request.engine,
                    engine_version=request.engine_version,
                    software_version=exafel.__version__,
                    git_describe=git_describe(),
                    fingerprint=self._fingerprint,
                    config=request.config.model_dump(mode="json"),
                    inputs=self._records,
                    containers=tuple(item for containers, _ in gathered for item in containers),
                    summary=summary.model_dump(mode="json"),
                    timings_s={"ranks": [report for _, report in gathered]},
                    host=host_facts(),
                    finished=datetime.now(UTC).isoformat(timespec="seconds"),
                ),
            )
            shutil.rmtree(self.work, ignore_errors=True)
        self.comm.barrier()
        return summary


def host_facts() -> dict[str, str]:
    """Where a step runs: machine, Python, and the image or packed environment that it runs in, if any."""
    facts = {"node": platform.node(), "machine": platform.machine(), "python": platform.python_version()}
    named = {"image": os.environ.get("EXAFEL_IMAGE", ""), "environment": Path(os.environ.get("EXAFEL_ENV", "")).name}
    return {**facts, **{key: value for key, value in named.items() if value}}


def _intact(folder: Path, manifest: Manifest) -> bool:
    try:
        verify_containers(folder, manifest)
    except InputError:
        return False
    return True


def _remove_results(folder: Path, manifest: Manifest) -> None:
    """Remove what an older run wrote, the manifest first: the folder must never look finished when it is not."""
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for item in manifest.containers:
        (folder / item.path).unlink(missing_ok=True)


def plan(request: StepRequest) -> dict[str, Any]:
    """Say what running the request would do, for ``--dry-run``; nothing is written.

    Raises
    ------
    InputError
        An input does not exist.
    """
    records = request.input_records()
    mark = request.fingerprint(records)
    known = request.out / WORK_NAME / _FINGERPRINT
    action = "run"
    if (request.out / MANIFEST_NAME).is_file():
        manifest = read_manifest(request.out)
        same = manifest.fingerprint == mark and _intact(request.out, manifest)
        action = "nothing, it is up to date" if same else "run again: inputs or configuration have changed"
    elif known.is_file() and known.read_text() == mark:
        action = "resume"
    return {
        "step": request.step,
        "engine": request.engine,
        "would": action,
        "inputs": {role: [str(path) for path in paths] for role, paths in request.inputs.items()},
        "out": str(request.out),
        "config": request.config.model_dump(mode="json"),
    }


def require_paths(paths: tuple[Path, ...], what: str) -> tuple[Path, ...]:
    """Check that a list of input paths is not empty and that they exist.

    Raises
    ------
    InputError
        There are none, or one does not exist.
    """
    if not paths:
        raise InputError(f"no {what} given")
    for path in paths:
        if not path.exists():
            raise InputError(f"no such {what.rstrip('s')}", where=path)
    return paths
