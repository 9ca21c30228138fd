"""Event records: one of fixed size for each change of state of a shot, the same for every step."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray


class Stage(IntEnum):
    """What happens to a shot; DONE and FAIL end it, for a simulated one SIMULATE."""

    START = 0
    SPOTFIND = 1
    INDEX = 2
    REFINE = 3
    INTEGRATE = 4
    SIMULATE = 5
    MERGE = 6
    DONE = 32
    FAIL = 33


EVENT_DTYPE = np.dtype(
    [
        ("magic", "S2"),
        ("stage", "u1"),
        ("spare", "u1"),
        ("rank", "<i4"),
        ("shot", "<i8"),
        ("monotonic_s", "<f8"),
        ("count", "<i8"),
        ("iso_time", "S28"),
        ("host", "S32"),
        ("reason", "S36"),
    ]
)
"""128 bytes. `monotonic_s` is comparable within a host; `iso_time` is UTC with microseconds; `count` is what the stage
counted (spots, lattices, reflections); `reason` is the outcome in one word where the shot failed."""

EVENT_MAGIC = b"EV"

Emit = Callable[[Stage, int, int, str], None]
"""``emit(stage, shot, count, reason)``: what numerical code calls; who listens is not its business."""


def no_event(stage: Stage, shot: int, count: int = 0, reason: str = "") -> None:
    """Take an event and forget it."""


def read_events(path: Path) -> AnyArray:
    """Read one rank's spool as an array of `EVENT_DTYPE`; a record cut short at the end by a kill is left out."""
    data = path.read_bytes()
    records = np.frombuffer(data[: len(data) // EVENT_DTYPE.itemsize * EVENT_DTYPE.itemsize], dtype=EVENT_DTYPE)
    return np.asarray(records[records["magic"] == EVENT_MAGIC])
