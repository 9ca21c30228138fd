"""What a person sees on the terminal while a step runs, and at its end; all of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exafel.steps import base

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_SECONDS_BETWEEN_LINES = 10.0


class _Bar:
    """A rich progress bar with the rate in its note."""

    def __init__(self, progress: Progress, total: int, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")
        self._start = time.perf_counter()

    def update(self, done: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=f"{_rate(done, self._start)}  {note}")


class _Lines:
    """A line every few seconds, for logs."""

    def __init__(self, total: int, description: str) -> None:
        self._total = total
        self._description = description
        self._start = self._last = time.perf_counter()

    def update(self, done: int, note: str = "") -> None:
        now = time.perf_counter()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            _say(f"{self._description}: {done} of {self._total}, {_rate(done, self._start)}  {note}")


def _rate(done: int, start: float) -> str:
    return f"{done / max(time.perf_counter() - start, 1e-9):.2f}/s"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class StepConsole:
    """Progress, notes and the closing table; rich, which draws bars and tables, is imported where they are shown."""

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    def hooks(self) -> base.Hooks:
        """Return the hooks that show a step's progress here."""
        return base.Hooks(progress=self._progress, note=_say)

    @contextmanager
    def _progress(self, description: str, total: int) -> Iterator[base.Progress]:
        if not sys.stderr.isatty():
            yield _Lines(total, description)
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            yield _Bar(progress, total, description)

    def show_summary(self, step: str, summary: Mapping[str, Any], out: Path) -> None:
        """Print the summary as a table."""
        if summary.get("up_to_date"):
            self._console.print(f"{step}: up to date, nothing to do ({out})")
            return
        from rich.table import Table

        table = Table(title=f"{step}: {out}", show_header=False)
        for key, value in summary.items():
            if key != "up_to_date":
                table.add_row(key, _text(value))
        self._console.print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return f"{len(value)} rows"
        return " ".join(_text(item) for item in value)
    return str(value)
