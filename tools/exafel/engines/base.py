"""The seam between the stills step and a program of another project that does the same work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from exafel.config.stills import StillsConfig
from exafel.io.events import Emit
from exafel.io.source import FrameSource


@dataclass(frozen=True)
class StillsJob:
    """What one rank asks of an engine.

    Parameters
    ----------
    source
        Every shot of the run.
    shots
        Numbers of the shots that this rank processes.
    config
        Parameters of the stills step.
    work
        Folder for scratch files of this rank alone.
    log
        File that the program's own words go to.
    """

    source: FrameSource
    shots: Sequence[int]
    config: StillsConfig
    work: Path
    log: Path


@dataclass(frozen=True)
class ShotResult:
    """How one shot ended.

    Parameters
    ----------
    shot
        Number of the shot.
    outcome
        In the names of the stills step.
    count
        Reflections where it is integrated, spots found where it failed.
    reason
        What the engine says of a failure.
    """

    shot: int
    outcome: str
    count: int = 0
    reason: str = ""


@dataclass(frozen=True)
class StillsOutput:
    """What an engine made of a job: one result a shot, and its files, None where no lattice was integrated."""

    results: tuple[ShotResult, ...]
    expt: Path | None = None
    refl: Path | None = None


class StillsEngine(Protocol):
    """A program that takes shots from images to integrated lattices."""

    def version(self) -> str:
        """Return the program's name and version.

        Raises
        ------
        EngineError
            It is not installed.
        """
        ...

    def check(self) -> None:
        """Find out cheaply whether this build of the program can do the step.

        Raises
        ------
        EngineError
            It cannot.
        """
        ...

    def run(self, job: StillsJob, emit: Emit, finished: Callable[[int], None]) -> StillsOutput:
        """Process one rank's shots; `finished` hears how many shots have ended so far.

        Raises
        ------
        EngineError
            The program failed, or did not write what it should have.
        """
        ...
