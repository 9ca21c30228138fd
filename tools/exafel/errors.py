"""The one family of errors: what went wrong, where, and what to do about it.

Raised by meaning anywhere, turned into one line and an exit code in one place, `exafel.cli.main`.
"""

from __future__ import annotations

from pathlib import Path


class ExafelError(Exception):
    """A failure that the user can understand.

    Parameters
    ----------
    what
        What is wrong, in one clause.
    where
        The file, image, configuration key or command that is meant; None where there is none.
    hint
        What to do about it; None where there is nothing to say.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.hint is None else f"{text} ({self.hint})"


def _rebuild(kind: type[ExafelError], what: str, where: str | None, hint: str | None) -> ExafelError:
    return kind(what, where=where, hint=hint)


class ConfigError(ExafelError):
    """Bad usage or configuration: an unknown key, a value out of range, an option that does not fit."""

    exit_code = 2


class InputError(ExafelError):
    """An input is missing, damaged or of the wrong kind."""


class FrameError(InputError):
    """One frame cannot be read; the other frames of its source still can."""


class EngineError(ExafelError):
    """A wrapped program is missing, cannot do the step, or did not write what it should have."""


class NothingUsableError(ExafelError):
    """The step ran to its end and nothing usable came out; the table of reasons says why."""

    exit_code = 3
