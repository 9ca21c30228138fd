"""Reflection tables as DIALS' ``.refl`` files: msgpack with one typed, contiguous block of bytes a column.

``["dials::af::reflection_table", 1, {"identifiers": {id: text}, "nrows": n, "data": {name: [type, [n, bytes]]}}]``,
all numbers little-endian. Two types are skipped on reading: ``Shoebox<>``, since nothing in this package needs the
pixels once a reflection is integrated, and ``std::string``, of which DIALS (3.12) writes the memory of the string
objects, addresses instead of text. For that reason columns of text are not written either.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from exafel.arrays import AnyArray
from exafel.errors import InputError
from exafel.io.files import atomic_write
from exafel.io.reflections import ReflectionTable

_MAGIC = "dials::af::reflection_table"
_VERSION = 1
_TYPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "bool": ("?", ()),
    "int": ("<i4", ()),
    "std::size_t": ("<u8", ()),
    "double": ("<f8", ()),
    "int6": ("<i4", (6,)),
    "cctbx::miller::index<>": ("<i4", (3,)),
    "vec2<double>": ("<f8", (2,)),
    "vec3<double>": ("<f8", (3,)),
    "mat3<double>": ("<f8", (3, 3)),
}
_TYPE_OF_SHAPE: dict[str, dict[tuple[int, ...], str]] = {
    "b": {(): "bool"},
    "f": {(): "double", (2,): "vec2<double>", (3,): "vec3<double>", (3, 3): "mat3<double>"},
    "i": {(): "int", (3,): "cctbx::miller::index<>", (6,): "int6"},
    "u": {(): "std::size_t"},
}
_TYPE_OF_COLUMN = {
    "flags": "std::size_t",
    "panel": "std::size_t",
    "partial_id": "std::size_t",
    "id": "int",
    "imageset_id": "int",
}
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, msgpack.UnpackException)


def read_refl(path: Path, columns: Collection[str] | None = None) -> ReflectionTable:
    """Read a ``.refl`` file.

    Parameters
    ----------
    path
        The file.
    columns
        Columns to read, of those that there are; None reads all.

    Raises
    ------
    InputError
        The file is missing, cut short, or is not a reflection table.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path) from error
    try:
        tree = msgpack.unpackb(content, raw=False, strict_map_key=False, unicode_errors="replace")
        return _parse(tree, columns)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"damaged or not a reflection table: {reason}", where=path) from error


def _parse(tree: Any, columns: Collection[str] | None) -> ReflectionTable:
    if not (isinstance(tree, list) and len(tree) == 3 and tree[0] == _MAGIC):
        raise ValueError("it does not start as one")
    if tree[1] != _VERSION:
        raise ValueError(f"version {tree[1]} is not known")
    body = tree[2]
    rows = body["nrows"]
    if not (isinstance(rows, int) and rows >= 0):
        raise ValueError("the number of rows is not a number")
    table = ReflectionTable(identifiers={int(key): str(text) for key, text in body["identifiers"].items()})
    for name, (kind, (count, content)) in body["data"].items():
        if count != rows:
            raise ValueError(f"column '{name}' has {count} rows where the table has {rows}")
        if kind in _TYPES and (columns is None or name in columns):
            table[str(name)] = _column(name, kind, rows, content)
    return table


def _column(name: str, kind: str, rows: int, content: Any) -> AnyArray:
    code, shape = _TYPES[kind]
    dtype = np.dtype(code)
    expected = rows * dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if not isinstance(content, bytes) or len(content) != expected:
        raise ValueError(f"column '{name}' does not have the {expected} bytes of {rows} rows")
    if dtype == np.bool_:
        return np.asarray(np.frombuffer(content, dtype=np.uint8) != 0)
    values: AnyArray = np.frombuffer(content, dtype=dtype).reshape(rows, *shape)
    return values.astype(dtype.newbyteorder("="), copy=True)


def write_refl(path: Path, table: ReflectionTable) -> None:
    """Write a ``.refl`` file, atomically.

    Types follow from the shapes of the columns: floats become ``double``, ``vec2``, ``vec3`` or ``mat3``, integers
    ``int``, ``cctbx::miller::index<>`` or ``int6``, unsigned 64-bit integers ``std::size_t``; ``id``, ``panel`` and
    ``flags`` have the types that DIALS expects whatever integers they are here.

    Raises
    ------
    ValueError
        A column has a shape or values that no DIALS type holds.
    ExafelError
        The file cannot be written.
    """
    rows = len(table)
    data = {}
    for name, values in table.columns.items():
        kind = _TYPE_OF_COLUMN.get(name) or _type_of(name, values)
        data[name] = [kind, [rows, _content(name, kind, values)]]
    body = {"identifiers": {int(key): text for key, text in table.identifiers.items()}, "nrows": rows, "data": data}
    with atomic_write(path) as stream:
        stream.write(msgpack.packb([_MAGIC, _VERSION, body], use_bin_type=True))


def _type_of(name: str, values: AnyArray) -> str:
    kind = _TYPE_OF_SHAPE.get(values.dtype.kind, {}).get(values.shape[1:])
    if kind is None:
        raise ValueError(f"column '{name}' of type {values.dtype} and shape {values.shape} has no DIALS type")
    return kind


def _content(name: str, kind: str, values: AnyArray) -> bytes:
    code, _ = _TYPES[kind]
    converted = values.astype(code)
    if converted.dtype.kind in "iu" and not np.array_equal(converted, values):
        raise ValueError(f"column '{name}' has values that do not fit into '{kind}'")
    return converted.tobytes()
