"""A small writer of PNG pictures with sixteen shades, for pictures of detectors: a tenth of the size of full colour."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from exafel.arrays import AnyArray

SHADES = 15
"""Shades of grey; the sixteenth entry of the palette is transparent."""


def grey_png(levels: AnyArray) -> bytes:
    """Write a picture as PNG with four bits a pixel (PNG specification, third edition, sections 5 and 11).

    Parameters
    ----------
    levels
        0 for white to `SHADES` - 1 for black, -1 for transparent, shape (rows, columns).
    """
    rows, columns = levels.shape
    index = np.zeros((rows, columns + columns % 2), dtype=np.uint8)
    index[:, :columns] = np.asarray(levels + 1, dtype=np.uint8)
    packed = (index[:, ::2] << 4) | index[:, 1::2]
    lines = np.zeros((rows, packed.shape[1] + 1), dtype=np.uint8)  # the first byte of a line says: no filter
    lines[:, 1:] = packed
    greys = np.rint(np.linspace(250, 0, SHADES)).astype(np.uint8)
    palette = np.repeat(np.append(np.uint8(128), greys), 3)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"tRNS", b"\x00"),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def grey_png_link(levels: AnyArray) -> str:
    """Return the picture as a data link."""
    return f"data:image/png;base64,{base64.b64encode(grey_png(levels)).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
