"""The table of shots that the stills step leaves: one row a shot, whatever engine processed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exafel.errors import InputError
from exafel.monitor.report.trial import StepFolder

OUTCOMES = ("integrated", "integrate_failed", "refine_failed", "not_indexed", "no_hit", "read_failed")
"""Outcomes of a shot from the best to the worst."""

SHOT_KINDS = ("shots", "outcomes")
"""Kinds of containers that hold the table."""

NUMBERS = ("n_spots", "n_indexed", "n_integrated", "n_lattices", "rmsd_px", "rmsd_delta_psi_deg", "d_min")
"""Columns of numbers that the report looks at; NaN where a table has not got them."""


def read_shots(step: StepFolder | None) -> pd.DataFrame | None:
    """Read the shots of all ranks in the order of the input; None where the step has left no table.

    Returns
    -------
    Columns ``shot``, ``image`` (path), ``index`` (number in the file; -1 for a file of one image), ``outcome``,
    ``reason`` and `NUMBERS`.

    Raises
    ------
    InputError
        A table is damaged.
    """
    files = [] if step is None else [path for kind in SHOT_KINDS for path in step.files(kind)]
    tables = [_read_table(path) for path in files]
    if not tables:
        return None
    table = pd.concat(tables, ignore_index=True)
    if "outcome" not in table:
        raise InputError("the table of shots has no outcomes", where=files[0])
    shots = pd.DataFrame(
        {
            "shot": pd.to_numeric(table.get("shot", pd.Series(range(len(table))))).astype(np.int64),
            "image": table.get("image", pd.Series("", index=table.index)).fillna("").astype(str),
            "index": pd.to_numeric(table.get("index", pd.Series(-1, index=table.index))).fillna(-1).astype(np.int64),
            "outcome": table["outcome"].astype(str),
            "reason": table.get("reason", pd.Series("", index=table.index)).fillna("").astype(str),
        }
    )
    for name in NUMBERS:
        shots[name] = pd.to_numeric(table[name], errors="coerce") if name in table else np.nan
    return shots.sort_values("shot", kind="stable", ignore_index=True)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path)
        if path.suffix == ".jsonl":
            return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
        data: Any = json.loads(path.read_bytes())
        return pd.DataFrame(data["shots"] if isinstance(data, dict) and "shots" in data else data)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the table of shots: {error}", where=path) from error
