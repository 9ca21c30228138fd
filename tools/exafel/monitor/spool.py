"""The event log's first station: one append-only file of fixed-size records a rank, node-local where there is such."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from exafel.io.events import EVENT_DTYPE, EVENT_MAGIC, Stage


class EventSpool:
    """Writes event records of one rank; an instance is the callback that steps hand to numerical code.

    Each record is one ``write`` on a descriptor opened with O_APPEND: whole or not there, also after a kill.

    Parameters
    ----------
    path
        The spool file; records are added to what is there.
    rank
        Number of the rank.
    """

    def __init__(self, path: Path, rank: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._record = np.zeros(1, dtype=EVENT_DTYPE)
        self._record["magic"] = EVENT_MAGIC
        self._record["rank"] = rank
        self._record["host"] = platform.node().encode()[:32]

    def __call__(self, stage: Stage, shot: int, count: int = 0, reason: str = "") -> None:
        """Write one record: see `exafel.io.events.EVENT_DTYPE`."""
        record = self._record
        record["stage"] = stage
        record["shot"] = shot
        record["count"] = count
        record["reason"] = reason.encode()[:36]
        record["monotonic_s"] = time.monotonic()
        record["iso_time"] = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00").encode() + b"Z"
        os.write(self._descriptor, record.tobytes())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
