"""How long ranks took to begin, by number of nodes: from the launch to the first image, as manifests have it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from exafel.errors import InputError
from exafel.io.manifest import MANIFEST_NAME, Manifest, read_manifest

PHASES = {
    "launch": "launch to birth",
    "imports": "interpreter and imports",
    "mpi": "start of MPI",
    "first_image": "step to first image",
}
"""Phases of a start, in their order, in words."""


def startup_table(manifests: Iterable[Manifest]) -> pd.DataFrame:
    """One row a step whose manifest has start-up times, ordered by nodes.

    Returns
    -------
    pandas.DataFrame
        Columns ``step``, ``environment`` (name of the packed environment, the image, or empty), ``nodes``, ``ranks``,
        and for every phase the median over ranks and ``<phase>_largest``, wall seconds, NaN where it was not measured;
        ``total_largest``, all phases of the rank that began last.
    """
    rows = []
    for manifest in manifests:
        ranks = [rank for rank in manifest.timings_s.get("ranks", []) if rank.get("startup_s")]
        if not ranks:
            continue
        times = pd.DataFrame([rank["startup_s"] for rank in ranks], columns=list(PHASES), dtype=float)
        environment = manifest.host.get("environment") or manifest.host.get("image") or ""
        row = {"step": manifest.step, "environment": environment}
        row |= {"nodes": len({rank.get("host", "") for rank in ranks}), "ranks": len(ranks)}
        row |= {phase: float(times[phase].median()) for phase in PHASES}
        row |= {f"{phase}_largest": float(times[phase].max()) for phase in PHASES}
        rows.append({**row, "total_largest": float(times.sum(axis=1).max())})
    names = [*PHASES, *(f"{phase}_largest" for phase in PHASES), "total_largest"]
    table = pd.DataFrame(rows, columns=["step", "environment", "nodes", "ranks", *names])
    return table.sort_values(["nodes", "ranks"], kind="stable", ignore_index=True)


def manifests_below(folders: Iterable[Path]) -> list[Manifest]:
    """Manifests of all steps in folders and the folders in them.

    Raises
    ------
    InputError
        A folder does not exist, or no step has finished in any.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError("no such folder", where=folder, hint="give folders of results")
        found += [read_manifest(path.parent) for path in sorted(folder.rglob(MANIFEST_NAME))]
    if not found:
        raise InputError("no finished step", where=", ".join(map(str, folders)), hint="give folders of results")
    return found


def draw(axes: Axes, table: pd.DataFrame, colours: Iterable[str]) -> None:
    """Draw the slowest rank's seconds by phase against the number of nodes; a line joins medians of equal nodes."""
    for (phase, words), colour in zip(PHASES.items(), colours, strict=False):
        values = table[["nodes", f"{phase}_largest"]].dropna()
        if len(values):
            axes.plot(*values.to_numpy().T, "o", color=colour, markersize=4, label=words)
            axes.plot(values.groupby("nodes").median(), color=colour, linewidth=1.0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(np.unique(table["nodes"]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("nodes")
    axes.set_ylabel("slowest rank (s)")
    axes.legend()
