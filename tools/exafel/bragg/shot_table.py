"""The table with one row a shot, named as diffBragg's hopper names its columns, as a pandas pickle or as Parquet.

Scripts that users have for hopper's pickles read these too (``pandas.read_pickle``). This package reads them through an
unpickler that knows pandas' own containers, numpy's arrays and plain values, and nothing that could run code.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from exafel.errors import ConfigError, InputError
from exafel.io.files import atomic_write
from exafel.parallel import safe_pickle

Row = dict[str, Any]
TableFormat = Literal["pickle", "parquet"]
SUFFIXES: dict[TableFormat, str] = {"pickle": ".pkl", "parquet": ".parquet"}


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of plain values and tuples, atomically; the name's end says in which format.

    Raises
    ------
    ConfigError
        Parquet is asked for and pyarrow is not installed.
    ExafelError
        The file cannot be written.
    """
    frame = pd.DataFrame({name: _column([row[name] for row in rows]) for name in (rows[0] if rows else {})})
    frame.columns = pd.Index(list(frame.columns), dtype=object)  # text of pandas' own kind needs code to be read
    if path.suffix == SUFFIXES["parquet"]:
        content = io.BytesIO()
        try:
            frame.map(_listed).to_parquet(content, index=False)
        except ImportError as error:
            raise ConfigError(
                "Parquet needs pyarrow", where="table_format", hint="pip install 'exafel[parquet]', or take pickle"
            ) from error
        data = content.getvalue()
    else:
        data = pickle.dumps(frame, protocol=4)
    with atomic_write(path) as stream:
        stream.write(data)


def read_table(path: Path) -> list[Row]:
    """Read rows that `write_table`, or hopper, wrote.

    Raises
    ------
    InputError
        The file is missing, damaged, or holds something that a table has no need of.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path) from error
    if path.suffix == SUFFIXES["parquet"]:
        frame = _read_parquet(data, path)
    else:
        frame = safe_pickle.loads(data, where=str(path), tables=True)
    if not isinstance(frame, pd.DataFrame):
        raise InputError("not a table with a row a shot", where=path)
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, map(_plain, values), strict=True)) for values in frame.itertuples(index=False, name=None)]


def _column(values: list[Any]) -> Any:
    """Tuples and text stay Python objects, whatever pandas would make of them."""
    if isinstance(values[0], str | tuple | list) or values[0] is None:
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return pd.Series(column, dtype=object)
    return np.asarray(values)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | list):
        return tuple(_plain(item) for item in value)
    return value


def _read_parquet(data: bytes, path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow", where=path, hint="pip install 'exafel[parquet]'") from error
    except (OSError, ValueError) as error:
        raise InputError(f"damaged or not Parquet: {error}", where=path) from error
