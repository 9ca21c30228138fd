"""Append-only spools of finished chunks: what lets a killed run go on where it was.

A spool is a sequence of records: magic (4 bytes), length (8, little-endian), CRC-32 (4), payload. A record cut short by
a kill fails its length or checksum and ends the reading; everything before it counts.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from exafel.errors import ExafelError

_HEADER = struct.Struct("<4sQI")
_MAGIC = b"XSP1"


class ChunkSpool:
    """Writer of one rank's spool; each record is on its way to the disk when `append` returns.

    Parameters
    ----------
    path
        The spool file; a damaged tail that a kill left is cut off first.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        if path.exists():
            os.truncate(path, sum(_HEADER.size + len(record) for record in read_spool(path)))
        self._stream = path.open("ab")

    def append(self, payload: bytes) -> None:
        """Add one record.

        Raises
        ------
        ExafelError
            The disk is full or gone.
        """
        try:
            self._stream.write(_HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload)
            self._stream.flush()
        except OSError as error:
            raise ExafelError(
                f"cannot write: {error.strerror}", where=self._path, hint="finished chunks are kept: run again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> ChunkSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_spool(path: Path) -> Iterator[bytes]:
    """Yield the payloads of whole records, one at a time in memory, up to the first damaged one."""
    with path.open("rb") as stream:
        while True:
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            magic, length, checksum = _HEADER.unpack(header)
            if magic != _MAGIC:
                return
            payload = stream.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield payload
