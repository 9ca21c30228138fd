"""The container format of CBF: text headers, and binary sections with their compressions."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import gemmi
import numpy as np

from exafel._kernels import decode_cbf_packed, decompress_bzip2
from exafel.arrays import AnyArray
from exafel.errors import InputError

_MARKER = b"--CIF-BINARY-FORMAT-SECTION--"
_MAGIC = b"\x0c\x1a\x04\xd5"
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
_MAX_HEADER = 64 << 20
_LONGEST_STEP = 15  # bytes that byte-offset compression takes for one pixel at the most
_LONGER_STEPS = ((2, 1 << 7), (4, 1 << 15), (8, 1 << 31))  # bytes more for steps from these on
_TYPES = {
    "unsigned 8-bit integer": "u1",
    "signed 8-bit integer": "i1",
    "unsigned 16-bit integer": "u2",
    "signed 16-bit integer": "i2",
    "unsigned 32-bit integer": "u4",
    "signed 32-bit integer": "i4",
    "signed 32-bit real ieee": "f4",
    "signed 64-bit real ieee": "f8",
}


class DamagedSectionError(ValueError):
    """A binary section cannot be decoded; the text says why."""


@dataclass(frozen=True, eq=False)
class Section:
    """One binary section: its MIME header (keys in lower case) and its compressed bytes."""

    header: dict[str, str]
    data: bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Dimensions (slow, mid, fast), 1 where there is no such dimension."""
        total = self._number("x-binary-number-of-elements", 0)
        fast = self._number("x-binary-size-fastest-dimension", total)
        mid = self._number("x-binary-size-second-dimension", total // fast if fast else 0)
        slow = self._number("x-binary-size-third-dimension", 1)
        if min(fast, mid, slow) < 1 or (total and fast * mid * slow != total):
            raise DamagedSectionError(f"the dimensions {slow} x {mid} x {fast} do not make {total} elements")
        return slow, mid, fast

    def _number(self, key: str, default: int) -> int:
        text = self.header.get(key, "")
        return int(text) if text.isdigit() else default

    def array(self) -> AnyArray:
        """Decode the section, shape (slow, mid, fast).

        Raises
        ------
        DamagedSectionError
            The bytes are not what the header promises, or their compression is not known.
        """
        self._check_digest()
        element = self.header.get("x-binary-element-type", "signed 32-bit integer").strip('" ').lower()
        if element not in _TYPES:
            raise DamagedSectionError(f"elements of type '{element}' are not supported")
        big = "big" in self.header.get("x-binary-element-byte-order", "little").lower()
        dtype = np.dtype(_TYPES[element]).newbyteorder(">" if big else "<")
        conversion = self.header.get("content-type", "").lower()
        if "x-cbf_packed" in conversion or "x-cbf_byte_offset" in conversion:
            return self._integers(conversion, element)
        if "conversions" in conversion and "x-cbf_none" not in conversion:
            name = conversion.partition("conversions=")[2]
            raise DamagedSectionError(f"compression {name} is not supported")
        slow, mid, fast = self.shape
        if len(self.data) < slow * mid * fast * dtype.itemsize:
            raise DamagedSectionError("the binary section ends too early")
        flat = np.frombuffer(self.data, dtype=dtype, count=slow * mid * fast)
        return flat.astype(dtype.newbyteorder("=")).reshape(slow, mid, fast)

    def _integers(self, conversion: str, element: str) -> AnyArray:
        if "32-bit integer" not in element:
            raise DamagedSectionError(f"compressed elements of type '{element}' are not supported")
        try:
            if "x-cbf_byte_offset" in conversion:
                array = _decode_byte_offset(self.data, self.shape, checked="content-md5" in self.header)
            else:
                array = decode_cbf_packed(
                    self.data,
                    self.shape,
                    version2="packed_v2" in conversion,
                    averaged="flat" not in conversion,
                    sections_correlated="uncorrelated_sections" not in conversion,
                )
        except (IndexError, MemoryError) as error:
            raise DamagedSectionError(str(error) or "the dimensions are too large") from error
        return array.view(np.uint32) if element.startswith("unsigned") else array

    def _check_digest(self) -> None:
        stated = self.header.get("content-md5")
        if stated is None:
            return
        try:
            wanted = base64.b64decode(stated)
        except binascii.Error as error:
            raise DamagedSectionError("the checksum in the header is damaged") from error
        if hashlib.md5(self.data, usedforsecurity=False).digest() != wanted:
            raise DamagedSectionError("the checksum of the pixels is wrong")


def _decode_byte_offset(data: bytes, shape: tuple[int, int, int], *, checked: bool) -> AnyArray:
    from fabio.compression import decByteOffset  # imported late: it brings in all of fabio

    count = shape[0] * shape[1] * shape[2]
    # Its decoder reads beyond data that end inside a step, so there must be something, and something to know it by.
    array: AnyArray = np.asarray(decByteOffset(data + b"U" * _LONGEST_STEP, size=count, dtype="int32"))
    if len(array) < count or not (checked or _bytes_needed(array) <= len(data)):
        raise DamagedSectionError("the compressed data end too early")
    return array.reshape(shape)


def _bytes_needed(array: AnyArray) -> int:
    """Bytes that byte-offset compression needs for these pixels at the least: 1, 3, 7 or 15 for each step."""
    step = np.abs(np.diff(array.astype(np.int64), prepend=0))
    return len(step) + sum(more * int(np.count_nonzero(step >= limit)) for more, limit in _LONGER_STEPS)


def _open(path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".bz2":
        return bz2.open(path, "rb")
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _unpack_bzip2(data: bytes) -> bytes:
    """Unpack in a third of the time that libbz2 takes; what ours cannot do is left to it, and so is what is damaged."""
    try:
        return decompress_bzip2(data)
    except RuntimeError:
        return bz2.BZ2File(io.BytesIO(data)).read()


def _cannot_read(path: Path, error: BaseException) -> InputError:
    reason = getattr(error, "strerror", None) or str(error) or "unexpected end"
    return InputError(f"cannot read: {reason}", where=path)


def read_header(path: Path) -> gemmi.cif.Block:
    """Read the text before the first pixels; nothing more is read, or unpacked, than that needs.

    Raises
    ------
    InputError
        The file is missing, damaged or not CBF.
    """
    text = b""
    try:
        with _open(path) as stream:
            while _MARKER not in text and len(text) < _MAX_HEADER and (piece := stream.read(1 << 18)):
                text += piece
    except _READ_ERRORS as error:
        raise _cannot_read(path, error) from error
    return parse_header(text, path)


def read_all(path: Path) -> bytes:
    """Read a whole file, unpacked.

    Raises
    ------
    InputError
        The file is missing or its packing is damaged.
    """
    try:
        if path.suffix.lower() == ".bz2":
            return _unpack_bzip2(path.read_bytes())
        with _open(path) as stream:
            return stream.read()
    except _READ_ERRORS as error:
        raise _cannot_read(path, error) from error


def parse_header(content: bytes, path: Path) -> gemmi.cif.Block:
    """Parse the CIF text before the first binary section.

    Raises
    ------
    InputError
        It is not CBF, or not CIF.
    """
    text, marker, rest = content.partition(_MARKER)
    if b"CBF" not in text[:64] and b"data_" not in text[:4096]:
        raise InputError("not a CBF file", where=path)
    if not marker:
        raise InputError("no pixels in the file: it ends in the header", where=path)
    # The value that the marker stands in is a text field; the header of the section is kept as its content.
    section = rest.partition(_MAGIC)[0].decode("ascii", "replace").replace("\n;", "\n ")
    cif = text.decode("ascii", "replace").replace("\r\n", "\n")
    try:
        block = gemmi.cif.read_string(cif + section.replace("\r\n", "\n") + "\n;\n").sole_block()
    except (ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"damaged header: {' '.join(str(error).split())}", where=path) from error
    return block


def binary_sections(content: bytes) -> Iterator[Section]:
    """Cut the binary sections out of a file.

    Raises
    ------
    DamagedSectionError
        A section's header is damaged, or the file ends within its bytes.
    """
    position = content.find(_MARKER)
    while position >= 0:
        start = content.find(_MAGIC, position)
        if start < 0:
            raise DamagedSectionError("a binary section has no start")
        header = _mime(content[position + len(_MARKER) : start].decode("ascii", "replace"))
        start += len(_MAGIC)
        size = header.get("x-binary-size", "")
        if not size.isdigit():
            raise DamagedSectionError("a binary section does not say its size")
        end = start + int(size)
        if end > len(content):
            raise DamagedSectionError(f"the file ends {end - len(content)} bytes too early")
        yield Section(header, content[start:end])
        closing = content.find(_MARKER, end)  # the marker that ends this section
        position = -1 if closing < 0 else content.find(_MARKER, closing + len(_MARKER))


def _mime(text: str) -> dict[str, str]:
    unfolded = re.sub(r"\r?\n[ \t]+", " ", text)
    pairs = (line.partition(":") for line in unfolded.splitlines())
    return {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}
