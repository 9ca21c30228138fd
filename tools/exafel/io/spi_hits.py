"""The table of hits of single particles: one row a shot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from exafel.arrays import IntArray
from exafel.errors import InputError, NothingUsableError
from exafel.io.manifest import read_manifest, verify_containers

SINGLE = "single"
COLUMNS = ("shot", "file", "index", "lit_pixels", "photons", "chi2", "size_angstrom", "scale", "label")


def read_hits(folder: Path) -> pd.DataFrame:
    """Read the table of a spi hits step.

    Raises
    ------
    InputError
        The step has not finished there, or its table is damaged.
    """
    manifest = read_manifest(folder)
    verify_containers(folder, manifest)
    files = manifest.files(folder, "hits")
    if not files:
        raise InputError("no table of hits", where=folder, hint="give the folder of a spi hits step")
    table = pd.read_csv(files[0])
    if not set(COLUMNS) <= set(table.columns):
        raise InputError("not a table of hits", where=files[0])
    return table


def read_single_hits(folder: Path, n_shots: int) -> IntArray:
    """Numbers of the shots that show one particle.

    Raises
    ------
    InputError
        The table is of other images.
    NothingUsableError
        There is none.
    """
    table = read_hits(folder)
    if len(table) != n_shots:
        raise InputError(f"has {len(table)} shots, but the images are {n_shots}", where=folder)
    single = table.loc[table["label"] == SINGLE, "shot"].to_numpy(dtype=np.int64)
    if not len(single):
        counts = ", ".join(f"{n} {label}" for label, n in table["label"].value_counts().items())
        raise NothingUsableError(f"no shot shows a single particle: {counts}", where=folder)
    return np.sort(single)
