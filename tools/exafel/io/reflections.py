"""Reflection tables: typed columns, as DIALS ``.refl`` files hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import IntFlag

import numpy as np

from exafel.arrays import AnyArray


class Flag(IntFlag):
    """Bits of the ``flags`` column, with the values that DIALS gives them."""

    PREDICTED = 1 << 0
    OBSERVED = 1 << 1
    INDEXED = 1 << 2
    USED_IN_REFINEMENT = 1 << 3
    STRONG = 1 << 5
    REFERENCE_SPOT = 1 << 6
    DONT_INTEGRATE = 1 << 7
    INTEGRATED_SUM = 1 << 8
    INTEGRATED_PRF = 1 << 9
    OVERLOADED = 1 << 10
    OVERLAPPED_BG = 1 << 11
    OVERLAPPED_FG = 1 << 12
    IN_POWDER_RING = 1 << 13
    FOREGROUND_INCLUDES_BAD_PIXELS = 1 << 14
    BACKGROUND_INCLUDES_BAD_PIXELS = 1 << 15
    INCLUDES_BAD_PIXELS = FOREGROUND_INCLUDES_BAD_PIXELS | BACKGROUND_INCLUDES_BAD_PIXELS
    BAD_SPOT = OVERLOADED | OVERLAPPED_BG | OVERLAPPED_FG | IN_POWDER_RING | INCLUDES_BAD_PIXELS
    USED_IN_MODELLING = 1 << 16
    CENTROID_OUTLIER = 1 << 17
    FAILED_DURING_BACKGROUND_MODELLING = 1 << 18
    FAILED_DURING_SUMMATION = 1 << 19
    FAILED_DURING_PROFILE_FITTING = 1 << 20
    BAD_REFERENCE = 1 << 21
    USER_EXCLUDED_IN_SCALING = 1 << 22
    OUTLIER_IN_SCALING = 1 << 23
    EXCLUDED_FOR_SCALING = 1 << 24
    BAD_FOR_SCALING = USER_EXCLUDED_IN_SCALING | OUTLIER_IN_SCALING | EXCLUDED_FOR_SCALING
    EXCLUDED_FOR_REFINEMENT = 1 << 25
    SCALED = 1 << 26


class ReflectionTable:
    """Columns of equal length, by DIALS' names.

    A column is an array of shape (n,) or (n, k): ``miller_index`` int32 (n, 3), ``xyzobs.px.value`` float64 (n, 3),
    ``bbox`` int32 (n, 6), ``panel`` uint64 (n,), ``flags`` uint64 (n,), ``id`` int32 (n,), ``entering`` bool (n,).

    Parameters
    ----------
    columns
        Name to array.
    identifiers
        Number in the ``id`` column to experiment identifier.
    """

    def __init__(
        self, columns: Mapping[str, AnyArray] | None = None, identifiers: Mapping[int, str] | None = None
    ) -> None:
        self._columns: dict[str, AnyArray] = {}
        self._rows = 0
        self.identifiers: dict[int, str] = dict(identifiers or {})
        for name, values in (columns or {}).items():
            self[name] = values

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> AnyArray:
        return self._columns[name]

    def __setitem__(self, name: str, values: AnyArray) -> None:
        array = np.asarray(values)
        others = [key for key in self._columns if key != name]
        if others and len(array) != self._rows:
            raise ValueError(f"column '{name}' has {len(array)} rows, the table has {self._rows}")
        self._rows = len(array)
        self._columns[name] = array

    def __delitem__(self, name: str) -> None:
        del self._columns[name]

    @property
    def columns(self) -> dict[str, AnyArray]:
        """Name to array, in order."""
        return dict(self._columns)

    def select(self, chosen: AnyArray) -> ReflectionTable:
        """Rows by a boolean mask or by row numbers; identifiers are kept."""
        return ReflectionTable({name: values[chosen] for name, values in self._columns.items()}, self.identifiers)

    def has_flag(self, flag: Flag) -> AnyArray:
        """Return where all bits of `flag` are set, shape (n,)."""
        bits = np.uint64(flag)
        return np.asarray((self["flags"].astype(np.uint64) & bits) == bits)

    @staticmethod
    def concatenate(tables: Sequence[ReflectionTable]) -> ReflectionTable:
        """Join tables row after row, renumbering ``id`` so that experiments follow in the tables' order.

        Columns that not every non-empty table has are dropped.
        """
        full = [table for table in tables if len(table) or table.identifiers]
        filled = [table for table in full if len(table)]
        if not filled:
            first = next((table for table in tables if table.columns), ReflectionTable())
            merged = ReflectionTable(first.columns)
        else:
            names = [name for name in filled[0] if all(name in table for table in filled)]
            merged = ReflectionTable({name: np.concatenate([table[name] for table in filled]) for name in names})
        offset = 0
        ids = []
        for table in full:
            count = 1 + max(table.identifiers, default=int(table["id"].max(initial=-1)) if "id" in table else -1)
            if len(table) and "id" in table:
                values = table["id"].astype(np.int32)
                ids.append(np.where(values >= 0, values + offset, values).astype(np.int32))
            merged.identifiers.update({number + offset: name for number, name in table.identifiers.items()})
            offset += count
        if ids and "id" in merged:
            merged["id"] = np.concatenate(ids)
        return merged
