"""The tables of shots and of lattices that the stills step leaves, whatever engine processed them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exafel.errors import InputError
from exafel.io.expt import read_expt
from exafel.monitor.report.trial import StepFolder

OUTCOMES = ("integrated", "integrate_failed", "refine_failed", "not_indexed", "no_hit", "read_failed")
"""Outcomes of a shot from the best to the worst."""

CELL_COLUMNS = ("a", "b", "c", "alpha", "beta", "gamma")
SHOT_COLUMNS = ("shot", "file", "index_in_file", "rank", "outcome", "reason", "n_spots")
LATTICE_COLUMNS = (
    "shot",
    *CELL_COLUMNS,
    "n_indexed",
    "n_integrated",
    "d_min",
    "mean_i_over_sigma",
    "rmsd_px",
    "half_mosaicity_deg",
    "domain_size_angstrom",
)
_PLAIN = LATTICE_COLUMNS[1 + len(CELL_COLUMNS) :]


@dataclass(frozen=True, eq=False)
class Shots:
    """What became of the shots of a run.

    Parameters
    ----------
    shots
        One row a shot with `SHOT_COLUMNS`, in the order of the input; ``index_in_file`` is -1 in a file of one image.
    lattices
        One row a lattice with `LATTICE_COLUMNS`; NaN where a number is not known.
    """

    shots: pd.DataFrame
    lattices: pd.DataFrame


def read_shots(step: StepFolder | None) -> Shots | None:
    """Read the tables of all ranks; None where the step has left none.

    Raises
    ------
    InputError
        A table is damaged.
    """
    files = [] if step is None else step.files("shots")
    if step is None or not files:
        return None
    shots: list[tuple[Any, ...]] = []
    lattices: list[tuple[Any, ...]] = []
    for path in files:
        try:
            _read_table(path, shots, lattices)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read the table of shots: {error!r}", where=path) from error
    table = pd.DataFrame(shots, columns=list(SHOT_COLUMNS)).sort_values("shot", kind="stable", ignore_index=True)
    found = pd.DataFrame(lattices, columns=list(LATTICE_COLUMNS))
    return Shots(table, found if len(found) else _lattices_of_experiments(step))


def _read_table(path: Path, shots: list[tuple[Any, ...]], lattices: list[tuple[Any, ...]]) -> None:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            shots.append(_shot(row))
            lattices.extend(_lattice(row["shot"], item) for item in row.get("lattices", ()))


def _shot(row: dict[str, Any]) -> tuple[Any, ...]:
    index = row.get("index")
    place = (row["shot"], str(row.get("file", "")), -1 if index is None else index, row.get("rank", 0))
    return (*place, str(row["outcome"]), str(row.get("reason") or ""), row.get("n_spots", 0))


def _lattice(shot: int, item: dict[str, Any]) -> tuple[Any, ...]:
    plain = {name: np.nan if item.get(name) is None else float(item[name]) for name in _PLAIN}
    return (shot, *item["cell"], *(plain[name] for name in _PLAIN))


def _lattices_of_experiments(step: StepFolder) -> pd.DataFrame:
    """Cells and mosaicities of the step's experiments, for engines that say no more about their lattices."""
    crystals = [item.crystal for path in step.files("expt") for item in read_expt(path) if item.crystal is not None]
    known = {"half_mosaicity_deg", "domain_size_angstrom"}
    rows = [
        {
            **dict(zip(CELL_COLUMNS, crystal.cell, strict=True)),
            **{name: getattr(crystal, name) for name in known},
        }
        for crystal in crystals
    ]
    table = pd.DataFrame(rows, columns=list(LATTICE_COLUMNS))
    return table.astype({name: np.float64 for name in LATTICE_COLUMNS if name != "shot"})
