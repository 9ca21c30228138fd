"""Pickles from disk that cannot run code: only data classes of this package and arrays come out of them.

A spool or dataframe may lie where others can write. `pickle.load` would run whatever they put there.
"""

from __future__ import annotations

import io
import pickle
from enum import Enum
from typing import Any

from exafel.errors import InputError

_ALLOWED = {
    ("builtins", "complex"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "Path"),
    ("pathlib._local", "PosixPath"),
}

_TABLES = {
    ("builtins", "slice"),
    ("pandas", "DataFrame"),
    ("pandas", "Index"),
    ("pandas", "RangeIndex"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
}
"""What pandas makes tables of: containers, none of which runs what it is given."""


def _member(kind: Any, name: Any) -> Any:
    """Return a member of an enumeration: Python before 3.11.4 pickles these as calls of getattr."""
    if not (isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__):
        raise pickle.UnpicklingError(f"attribute {name!r} of {kind!r} is not allowed")
    return kind[name]


class _Unpickler(pickle.Unpickler):
    allowed = _ALLOWED

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member
        if (module, name) in self.allowed:
            return super().find_class(module, name)
        if module.startswith("exafel.") and name.isidentifier():  # no dotted path to what a module has imported
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"'{module}.{name}' is not allowed")


class _TableUnpickler(_Unpickler):
    allowed = _ALLOWED | _TABLES


def loads(data: bytes, *, where: str, tables: bool = False) -> Any:
    """Read a pickle of this package's own data classes, numpy arrays and plain Python values.

    Parameters
    ----------
    data
        The pickle.
    where
        File that it comes from, for the message.
    tables
        Whether it may hold tables of pandas.

    Raises
    ------
    InputError
        It is damaged, or holds something else.
    """
    try:
        return (_TableUnpickler if tables else _Unpickler)(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"not a pickle of results: {error}", where=where, hint="delete it and run again") from error
