"""The seam between the stills step and a program of another project that does the same work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from exafel.config.stills import StillsConfig
from exafel.io.events import Emit
from exafel.io.experiment import Experiment
from exafel.io.reflections import ReflectionTable
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


@dataclass(frozen=True, eq=False)
class EngineLattice:
    """One integrated lattice: its models, its integrated reflections, and the strong spots that it indexes."""

    experiment: Experiment
    integrated: ReflectionTable
    indexed: ReflectionTable


@dataclass(eq=False)
class EngineShot:
    """How one shot ended.

    Parameters
    ----------
    shot
        Number of the shot.
    outcome, reason
        The outcome in the names of the stills step; the reason in the engine's words, empty where it is integrated.
    spots
        Its strong spots.
    lattices
        Those integrated.
    cpu_s
        CPU seconds of the engine; the mean over a rank's shots where it does not say more.
    """

    shot: int
    outcome: str
    reason: str = ""
    spots: ReflectionTable = field(default_factory=ReflectionTable)
    lattices: list[EngineLattice] = field(default_factory=list)
    cpu_s: float = 0.0


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

    def unused(self, config: StillsConfig) -> list[str]:
        """Return the keys that were set and that this engine has no parameter for."""
        ...

    def run(self, job: StillsJob, emit: Emit, finished: Callable[[int], None]) -> list[EngineShot]:
        """Process one rank's shots; `finished` hears how many shots have ended so far.

        Raises
        ------
        EngineError
            The program failed, or did not write what it should have.
        """
        ...
