"""Files that are whole or not there: atomic writes and checksums."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import lzma
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from exafel.errors import ExafelError, InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well, flushed to disk.

    Raises
    ------
    ExafelError
        The disk is full or the folder cannot be written; whatever was at `path` before is still there.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise ExafelError(f"cannot write: {error.strerror or error}", where=path) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def lock_folder(folder: Path) -> int:
    """Take a folder, made if need be, for one process; the lock ends with the process, however that ends.

    On file systems without locks nothing is locked.

    Returns
    -------
    int
        Descriptor that holds the lock until it is closed.

    Raises
    ------
    ExafelError
        Another process has the lock, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ExafelError(f"cannot write: {error.strerror}", where=folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ExafelError("another run is writing here", where=folder, hint="wait for it to end, or end it") from error
    except OSError:
        pass  # no locks here, and results are no worse for it
    return handle


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, indented, with a newline at the end; NaN and infinity are refused."""
    text = json.dumps(data, indent=2, allow_nan=False)
    with atomic_write(path) as stream:
        stream.write(text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    InputError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path) from error
    except ValueError as error:
        raise InputError(f"not valid JSON: {error}", where=path) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_compressed(path: Path) -> bytes:
    """Content of a file that may be compressed by gzip or xz, as its name says.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(data)
        return lzma.decompress(data) if path.suffix == ".xz" else data
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path) from error
