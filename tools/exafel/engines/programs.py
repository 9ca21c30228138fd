"""Running programs of other projects: with an environment of their own, and never outliving their caller."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from exafel.errors import EngineError

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_FOR_A_QUESTION = 120.0

_OF_MPI = ("OMPI_", "PMIX_", "PMI_", "PRTE_")


def environment() -> dict[str, str]:
    """Return this process' environment, with one thread, less what would make a child take itself for an MPI rank."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_MPI)}
    return {**own, "OMP_NUM_THREADS": "1"}


def ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that answers at once.

    Raises
    ------
    EngineError
        It cannot be started or does not end within two minutes.
    """
    try:
        return subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=_SECONDS_FOR_A_QUESTION, check=False
        )
    except OSError as error:
        raise EngineError(f"cannot be started: {error.strerror}", where=command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"gave no answer within {_SECONDS_FOR_A_QUESTION:.0f} s", where=command[0]) from error


def follow(command: Sequence[str], *, folder: Path, log: Path, look: Callable[[], None]) -> int:
    """Run a program to its end in `folder`, with its output in `log`, calling `look` now and then and at the end.

    Returns
    -------
    The program's exit code.

    Raises
    ------
    EngineError
        It cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise EngineError(f"cannot be started: {error.strerror}", where=command[0]) from error
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_SECONDS_BETWEEN_LOOKS)
                look()
        finally:
            process.kill()
            process.wait()
    return process.returncode


def last_line(text: str) -> str | None:
    """Return the last line that is not empty; programs put their error there."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else None
