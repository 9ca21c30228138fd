"""The table of shots: pandas reads it, this package reads it without running what is in it."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exafel.bragg.shot_table import read_table, write_table
from exafel.errors import ConfigError, InputError

ROWS = [
    {"spot_scales": 2.5, "ncells": (3.0, 4.0, 5.0), "niter": 7, "exp_name": "a.expt", "use_diffuse_models": False},
    {"spot_scales": 0.5, "ncells": (1.0, 2.0, 9.0), "niter": 8, "exp_name": "", "use_diffuse_models": True},
]


def test_rows_come_back_and_pandas_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "rank-00000.pkl"
    write_table(path, ROWS)
    assert read_table(path) == ROWS
    frame = pd.read_pickle(path)
    assert list(frame["spot_scales"]) == [2.5, 0.5]
    assert frame["ncells"][1] == (1.0, 2.0, 9.0)


def test_parquet_needs_pyarrow_or_has_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "rank-00000.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(ConfigError, match="pyarrow"):
            write_table(path, ROWS)
    else:
        write_table(path, ROWS)
        assert read_table(path) == ROWS


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


def test_what_could_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pkl"
    column = np.empty(1, dtype=object)
    column[0] = _Bomb()
    for content in (_Bomb(), pd.DataFrame({"a": pd.Series(column)})):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match="not allowed"):
            read_table(path)
    assert capsys.readouterr().out == ""


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rank.pkl"
    with pytest.raises(InputError, match="cannot read"):
        read_table(path)
    write_table(path, ROWS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a pickle"):
        read_table(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="row a shot"):
        read_table(path)
