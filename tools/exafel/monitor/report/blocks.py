"""What a section of the report is made of: facts, tables, figures and notes, each with the numbers behind it."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from exafel.arrays import AnyArray

_NUMBER = re.compile(r"[-+−]?[\d\u202f.]+(e[-+]?\d+)?( ?%)?")
_NUMBER_OR_NONE = re.compile(rf"{_NUMBER.pattern}|–|")


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: numpy numbers become Python's, NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def text(value: Any, digits: int = 4) -> str:
    """Show a value to a person: a dash for what is not known, digits grouped in integers, `digits` significant ones."""
    value = plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if abs(value) >= 10**digits or value.is_integer():
            return text(round(value))
        return f"{value:.{digits}g}"
    if isinstance(value, list):
        return ", ".join(text(item, digits) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(item, digits)}" for key, item in value.items())
    return str(value)


@dataclass(frozen=True)
class Numbers:
    """Columns of equal length behind a figure or a table, to be taken away as JSON or CSV."""

    name: str
    columns: Mapping[str, Sequence[Any] | AnyArray]

    def __post_init__(self) -> None:
        if len({len(values) for values in self.columns.values()}) > 1:
            raise ValueError(f"the columns of '{self.name}' differ in length")

    def as_json(self) -> dict[str, list[Any]]:
        """Columns by name."""
        return {name: plain(list(values)) for name, values in self.columns.items()}

    def as_csv(self) -> str:
        """Header line and one line a row; empty where a value is not known."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        data = self.as_json()
        writer.writerow(data)
        for row in zip(*data.values(), strict=True):
            writer.writerow(["" if item is None else item for item in row])
        return stream.getvalue()

    @property
    def csv_link(self) -> str:
        """The CSV as a data link."""
        return _data_link("text/csv", self.as_csv().encode())

    @property
    def json_link(self) -> str:
        """The JSON as a data link."""
        return _data_link("application/json", json.dumps(self.as_json(), indent=1, allow_nan=False).encode())


def _data_link(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Fact:
    """One number worth a large type: its name, its value, a short remark."""

    label: str
    value: str
    remark: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Facts:
    """A row of facts."""

    kind: ClassVar[str] = "facts"
    items: tuple[Fact, ...]


@dataclass(frozen=True)
class Table:
    """A table: column heads, rows of values, and what it shows.

    Parameters
    ----------
    marked
        Numbers of the rows to stand out.
    total
        A last row apart from the others.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    marked: frozenset[int] = frozenset()
    total: tuple[Any, ...] | None = None
    folded: bool = False
    numbers: Numbers | None = None

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, or texts of numbers, and so is to be aligned to the right."""
        values = [text(row[column]) for row in self.rows]
        return column > 0 and any(map(_NUMBER.fullmatch, values)) and all(map(_NUMBER_OR_NONE.fullmatch, values))


@dataclass(frozen=True)
class Figure:
    """A picture with the words for those who do not see it, and its numbers."""

    kind: ClassVar[str] = "figure"
    caption: str
    alt: str
    svg: str
    numbers: Numbers
    wide: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence: that something is missing, or how to read what is there."""

    kind: ClassVar[str] = "note"
    words: str
    warning: bool = False


Block = Facts | Table | Figure | Note


@dataclass
class Section:
    """One section of the page.

    Parameters
    ----------
    key
        Its anchor, and its key in ``report.json``.
    title
        Its heading.
    numbers
        Everything that it shows, as plain data.
    """

    key: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def add(self, *blocks: Block) -> None:
        """Put blocks at the end."""
        self.blocks.extend(blocks)

    def note(self, words: str, *, warning: bool = False) -> None:
        """Put a sentence at the end."""
        self.blocks.append(Note(words, warning))

    def as_json(self) -> dict[str, Any]:
        """Numbers of the section, those of its figures under ``figures``, and its notes."""
        figures = {block.numbers.name: block.numbers.as_json() for block in self.blocks if isinstance(block, Figure)}
        notes = [block.words for block in self.blocks if isinstance(block, Note)]
        return {**plain(self.numbers), "figures": figures, "notes": notes}
