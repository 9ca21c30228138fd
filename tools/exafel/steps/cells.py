"""Unit cells over all lattices: clusters with mean and covariance, and a table with one row a lattice."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from exafel.config.base import Model
from exafel.config.cells import CellsConfig
from exafel.errors import InputError, NothingUsableError
from exafel.io.crystal import space_group_of_hall
from exafel.io.experiment import Experiment
from exafel.io.expt import read_expt
from exafel.io.files import atomic_write, write_json
from exafel.io.manifest import MANIFEST_NAME, read_manifest, verify_containers
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.stills.cells import CellCluster, CellClusters, cell_row, cluster_cells

CELLS_NAME = "cells.json"
TABLE_NAME = "cells.csv"
_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")

_Row = tuple[str, str, str, tuple[float, ...]]  # identifier, image, space group, cell


class ClusterSummary(Model):
    """One cluster of cells; angstrom and degrees."""

    space_group: str
    size: int
    fraction: float = Field(description="Of all lattices.")
    mean: tuple[float, ...]
    median: tuple[float, ...]
    robust_sigma: tuple[float, ...]


class CellsSummary(StepSummary):
    """How many lattices there are, and what cells they have."""

    n_lattices: int
    n_clustered: int = Field(description="Lattices in a cluster.")
    clusters: tuple[ClusterSummary, ...] = Field(description="Largest first.")


def request(config: CellsConfig, stills: Sequence[Path], out: Path) -> StepRequest:
    """Describe the statistics of the cells of some stills.

    Parameters
    ----------
    config
        The parameters.
    stills
        Folders of the stills step, folders of DIALS files, or ``.expt`` files.
    out
        Folder for ``cells.json``, ``cells.csv`` and the manifest.

    Raises
    ------
    InputError
        An input does not exist.
    """
    return StepRequest("cells", config, {"stills": require_paths(tuple(stills), "stills folders")}, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> CellsSummary:
    """Cluster the cells of all lattices; the ranks share the reading.

    Raises
    ------
    InputError
        An input cannot be read.
    NothingUsableError
        The inputs hold no lattice.
    """
    config = request.config
    assert isinstance(config, CellsConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(CellsSummary)
        with step.phase("input"):
            # one rank looks into the folders, not thousands
            files = from_root(comm, lambda: _all_experiment_files(request.inputs["stills"], config))
            rows = [row for file in files[comm.rank :: comm.size] for row in _rows(file)]
            gathered = comm.gather(rows)
        with step.phase("cluster"):
            rows = sorted(row for part in gathered or () for row in part)
            summary = from_root(comm, lambda: _conclude(rows, config, step))
        if comm.rank == 0:
            for cluster in summary.clusters:
                cell = " ".join(f"{value:.2f}" for value in cluster.median)
                hooks.note(f"{cluster.size} lattices ({cluster.fraction:.0%}) {cluster.space_group}: {cell}")
        return step.finish(summary)


def _all_experiment_files(paths: Sequence[Path], config: CellsConfig) -> list[Path]:
    return [file for path in paths for file in _experiment_files(path, config)]


def _experiment_files(path: Path, config: CellsConfig) -> list[Path]:
    if (path / MANIFEST_NAME).is_file():
        manifest = read_manifest(path)
        verify_containers(path, manifest)
        files = manifest.files(path, "expt")
    else:
        files = sorted(path.glob(f"*{config.experiments_suffix}")) if path.is_dir() else [path]
    if not files:
        raise InputError(
            f"no lattices: no manifest of stills, and no file that ends in {config.experiments_suffix}",
            where=path,
            hint="another name: cells.experiments_suffix",
        )
    return files


def _rows(file: Path) -> list[_Row]:
    return [_row(experiment) for experiment in read_expt(file) if experiment.crystal is not None]


def _row(experiment: Experiment) -> _Row:
    assert experiment.crystal is not None
    group = space_group_of_hall(experiment.crystal.space_group_hall).hm
    return experiment.identifier, experiment.image.label, str(group), experiment.crystal.cell


def _conclude(rows: list[_Row], config: CellsConfig, step: StepRun) -> CellsSummary:
    if not rows:
        raise NothingUsableError("the inputs hold no lattice", hint="look at the stills step's table of reasons")
    groups = [group for group, _ in Counter(row[2] for row in rows).most_common()]
    results = {}
    for group in groups:
        members = [row for row in rows if row[2] == group]
        results[group] = members, cluster_cells(np.array([row[3] for row in members]), config)
    clusters = [
        (group, cluster) for group, (_, found) in results.items() for cluster in found.clusters
    ]  # largest first within a space group, and space groups by their number of lattices
    content = {
        "n_lattices": len(rows),
        "linking_distance": {group: found.linking_distance for group, (_, found) in results.items()},
        "parameters": list(_PARAMETERS),
        "clusters": [_as_json(group, cluster, len(rows)) for group, cluster in clusters],
    }
    write_json(step.out / CELLS_NAME, content)
    step.add_container(step.out / CELLS_NAME, "cells", rows=len(clusters))
    _write_table(step.out / TABLE_NAME, results)
    step.add_container(step.out / TABLE_NAME, "cell_table", rows=len(rows))
    return CellsSummary(
        n_lattices=len(rows),
        n_clustered=sum(cluster.size for _, cluster in clusters),
        clusters=tuple(_summary(group, cluster, len(rows)) for group, cluster in clusters),
    )


def _summary(group: str, cluster: CellCluster, n_lattices: int) -> ClusterSummary:
    return ClusterSummary(
        space_group=group,
        size=cluster.size,
        fraction=round(cluster.size / n_lattices, 4),
        mean=cell_row(cluster.mean, 4),
        median=cell_row(cluster.median, 4),
        robust_sigma=cell_row(cluster.robust_sigma, 5),
    )


def _as_json(group: str, cluster: CellCluster, n_lattices: int) -> dict[str, Any]:
    content = _summary(group, cluster, n_lattices).model_dump(mode="json")
    return {**content, "mean": cluster.mean.tolist(), "covariance": cluster.covariance.tolist()}


def _write_table(path: Path, results: dict[str, tuple[list[_Row], CellClusters]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["identifier", "image", "space_group", *_PARAMETERS, "cluster", "mahalanobis"])
    first = 0
    for group, (rows, found) in results.items():
        cells = np.array([row[3] for row in rows])
        distance = np.full(len(rows), np.nan)
        for number, cluster in enumerate(found.clusters):
            chosen = found.labels == number
            distance[chosen] = cluster.mahalanobis(cells[chosen])
        for row, label, far in zip(rows, found.labels, distance, strict=True):
            place = ["", ""] if label < 0 else [str(int(label) + first), f"{far:.3f}"]
            writer.writerow([row[0], row[1], group, *cell_row(row[3], 5), *place])
        first += len(found.clusters)
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode())
