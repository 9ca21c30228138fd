"""DIALS as engine of the stills step: dials.stills_process, one process a rank, judged by what it writes.

Its exit code says little: it is 0 when every shot has failed, and when the program could not even try.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from exafel.config.stills import StillsConfig
from exafel.engines.base import EngineShot, StillsJob
from exafel.engines.dials_debug import DebugTail
from exafel.engines.dials_phil import Selection, phil_text, select_images, without_equivalent
from exafel.engines.dials_results import read_results
from exafel.engines.programs import ask, follow, last_line
from exafel.errors import EngineError, InputError
from exafel.io.events import Emit, Stage
from exafel.io.files import atomic_write

PROGRAM = "dials.stills_process"

_EXTENSION = "xfel_mono_sim_ext"
_HINT = "use engine native, or a DIALS with the xfel extensions, such as its conda build; see docs/engines.md"
_FINISHED = "finished"
_PHIL = "stills.phil"
_FILE_LIST = "files.txt"

# What DIALS' fit of the mosaicity imports; newer releases have it in a package that needs no extension.
_PROBE = """
try:
    import serialtbx.mono_simulation.max_like
except ImportError:
    import xfel.mono_simulation.max_like
"""


@dataclass(frozen=True)
class DialsStills:
    """dials.stills_process in the place of the native stills engine.

    Parameters
    ----------
    program
        Path of the program; None looks for it on the PATH.
    """

    program: Path | None = None

    def path(self) -> Path:
        """Return the program's path.

        Raises
        ------
        EngineError
            It is not installed.
        """
        found = self.program or shutil.which(PROGRAM)
        if found is None or not Path(found).is_file():
            raise EngineError(f"{PROGRAM} is not installed here", where=self.program, hint=_HINT)
        return Path(found)

    def version(self) -> str:
        """Return what ``dials.version`` calls itself, such as ``DIALS 3.12``.

        Raises
        ------
        EngineError
            DIALS is not installed or does not start.
        """
        program = self.path()
        answer = ask([str(program.with_name("dials.version"))])
        for line in answer.stdout.splitlines():
            if line.startswith("DIALS"):
                return line.strip()
        raise EngineError("this DIALS does not say its version", where=program, hint=last_line(answer.stderr))

    def check(self) -> None:
        """Find out, in a fraction of a second, whether this build of DIALS can index stills.

        Raises
        ------
        EngineError
            It lacks the extension that its fit of the mosaicity imports.
        """
        interpreter = _interpreter(self.path())
        if interpreter is not None and _EXTENSION in ask([interpreter, "-c", _PROBE]).stderr:
            raise self._lacks_extension()

    def unused(self, config: StillsConfig) -> list[str]:
        """Return the keys that were set and that DIALS has no parameter for."""
        return without_equivalent(config)

    def run(self, job: StillsJob, emit: Emit, finished: Callable[[int], None]) -> list[EngineShot]:
        """Run the program on a rank's shots and read what it wrote.

        Shots that cannot be read are kept from it, since it stops at the first damaged file and loses all the others.
        Work that was complete when an earlier run was interrupted is not done again.

        Raises
        ------
        EngineError
            The program failed, or did not write what it should have.
        """
        images = [job.source.image(shot) for shot in range(len(job.source))]
        damaged = list(_damaged(job, emit))
        finished(len(damaged))
        bad = {result.shot for result in damaged}
        selection = select_images(images, (shot for shot in job.shots if shot not in bad))
        if not selection.tags:
            return damaged
        mark = job.work / _FINISHED
        if not mark.is_file():
            shutil.rmtree(job.work, ignore_errors=True)
            start = _cpu_of_children()
            self._run(job, selection, emit, lambda count: finished(len(damaged) + count))
            cpu_s = _cpu_of_children() - start
            with atomic_write(mark) as stream:
                stream.write(f"{cpu_s}\n".encode())
        chosen = {shot: images[shot] for shot in selection.tags.values()}
        results = read_results(job.work, selection.tags, chosen, _space_group(job.config))
        for result in results:
            result.cpu_s = float(mark.read_text()) / len(results)
        return damaged + results

    def _run(self, job: StillsJob, selection: Selection, emit: Emit, finished: Callable[[int], None]) -> None:
        _write_inputs(job, selection)
        tail = DebugTail(job.work / "debug" / "debug_0.txt")
        done = 0

        def look() -> None:
            nonlocal done
            for record in tail.read():
                shot = selection.tags.get(record.tag)
                if shot is not None and record.stage is not None:
                    emit(record.stage, shot, record.count, record.failure)
                    done += record.outcome is not None
            finished(done)

        code = follow([str(self.path()), _PHIL], folder=job.work, log=job.log, look=look)
        said = job.log.read_text(errors="replace")
        if f'ImportError: __import__("{_EXTENSION}")' in said and not list(job.work.glob("idx-*_integrated.expt")):
            raise self._lacks_extension()
        if code != 0:
            raise EngineError(f"{PROGRAM} ended with exit code {code}", where=job.log, hint=last_line(said))

    def _lacks_extension(self) -> EngineError:
        what = f"this build of {self.version()} lacks the module {_EXTENSION} of cctbx.xfel and cannot index stills"
        return EngineError(what, where=self.path(), hint=_HINT)


def _space_group(config: StillsConfig) -> str | None:
    """Space group of the lattices; None where DIALS is to choose a lattice for itself."""
    known = config.indexing
    return known.space_group or (None if known.unit_cell is None else "P1")


def _damaged(job: StillsJob, emit: Emit) -> Iterator[EngineShot]:
    for shot in job.shots:
        try:
            job.source.frame(shot)
        except InputError as error:
            emit(Stage.FAIL, shot, 0, "read_failed")
            yield EngineShot(shot, "read_failed", error.what)


def _write_inputs(job: StillsJob, selection: Selection) -> None:
    tags = () if selection.whole else tuple(selection.tags)
    with atomic_write(job.work / _FILE_LIST) as stream:
        stream.writelines(f"{path.resolve()}\n".encode() for path in selection.files)
    with atomic_write(job.work / _PHIL) as stream:
        stream.write(phil_text(job.config, file_list=_FILE_LIST, tags=tags).encode())


def _interpreter(program: Path) -> str | None:
    """Find the Python that runs DIALS: ``dials.python`` beside the program, or the one on the program's first line."""
    beside = program.with_name("dials.python")
    if beside.is_file():
        return str(beside)
    with program.open("rb") as stream:
        first = stream.readline().decode(errors="replace").strip()
    named = first.removeprefix("#!").strip()
    return named if first.startswith("#!") and Path(named).name.startswith("python") else None


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
