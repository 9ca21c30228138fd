"""What dials.stills_process says about each shot in its ``debug/debug_N.txt``: one comma-separated line an event."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exafel.io.events import Stage

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)Z(\d\d(?:\.\d+)?)")
_EVENT = re.compile(r"(.*?)(?:_(\d+))?")

_STAGES = {
    "start": Stage.START,
    "spotfind_start": Stage.SPOTFIND,
    "index_start": Stage.INDEX,
    "refine_start": Stage.REFINE,
    "integrate_start": Stage.INTEGRATE,
}

OUTCOMES = {
    "integrate_ok": "integrated",
    "not_enough_spots": "no_hit",
    "too_many_spots": "no_hit",
    "indexing_failed": "not_indexed",
    "refine_failed": "refine_failed",
    "integrate_failed": "integrate_failed",
    "preprocess_exception": "read_failed",
    "spotfinding_exception": "read_failed",
}
"""The last event of a shot, and what that makes of the shot. Spot finding is where DIALS first reads the pixels."""


@dataclass(frozen=True)
class DebugRecord:
    """One event of one shot.

    Parameters
    ----------
    host, tag
        Where it happened, and DIALS' name of the image.
    time
        When, UTC.
    event
        Name of the event, without the count at its end.
    count
        Number of spots or reflections that the event reports; 0 where it reports none.
    """

    host: str
    tag: str
    time: datetime
    event: str
    count: int

    @property
    def outcome(self) -> str | None:
        """What becomes of the shot; None for an event in its course."""
        return OUTCOMES.get(self.event)

    @property
    def stage(self) -> Stage | None:
        """The stage that begins or ends with the event."""
        if self.outcome is not None:
            return Stage.DONE if self.outcome == "integrated" else Stage.FAIL
        return _STAGES.get(self.event)

    @property
    def failure(self) -> str:
        """Why the shot ended without reflections, in DIALS' words; empty for any other event."""
        return self.event if self.stage is Stage.FAIL else ""


class DebugTail:
    """Reads what has been added to a debug file since the last look.

    Parameters
    ----------
    path
        The file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[DebugRecord]:
        """Return the new events; a line that is still being written waits for the next look."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return parse_debug(whole.decode(errors="replace"))


def parse_debug(text: str) -> list[DebugRecord]:
    """Read the events of a debug file in their order.

    A line is ``host,tag,2026-11-22T08:32Z31.072,state,event``: the seconds stand behind the Z, which is not ISO 8601.
    A last line cut short by a kill, and the empty line that a restart leaves, are passed over.
    """
    whole = text[: text.rfind("\n") + 1]
    return [record for line in whole.splitlines() if (record := _record(line)) is not None]


def _record(line: str) -> DebugRecord | None:
    fields = line.split(",")
    if len(fields) < 5:
        return None
    host, *tag, time, _state, event = fields  # a tag is a file name and may hold a comma
    match = _TIME.fullmatch(time.strip())
    name = _EVENT.fullmatch(event.strip())
    if match is None or name is None:
        return None
    when = datetime.fromisoformat(f"{match[1]}:{match[2]}").replace(tzinfo=UTC)
    return DebugRecord(host, ",".join(tag), when, name[1], int(name[2] or 0))


def by_tag(records: Iterable[DebugRecord]) -> dict[str, list[DebugRecord]]:
    """Group events by image, in the order in which the images were begun."""
    groups: dict[str, list[DebugRecord]] = {}
    for record in records:
        groups.setdefault(record.tag, []).append(record)
    return groups
