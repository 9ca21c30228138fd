"""What to merge into: reference, target cell and space group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np

from exafel.config.merge import MergeConfig
from exafel.errors import NothingUsableError
from exafel.io.crystal import CellParameters, space_group, space_group_of_hall
from exafel.io.experiment import Experiment
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.cluster import CellCluster, load_cluster
from exafel.merging.lattices import Target
from exafel.merging.reference import ReferenceModel, read_reference
from exafel.parallel.comm import Communicator, from_root


def find_target(
    config: MergeConfig, experiments: Sequence[Experiment] | None, reference: ReferenceModel | None, comm: Communicator
) -> Target:
    """Settle the cell and space group to merge in: as configured, else the reference's, else what most lattices have.

    Parameters
    ----------
    config
        The configuration.
    experiments
        This rank's experiments; None where configuration and reference say it all.
    reference
        What the lattices are scaled to, or None.
    comm
        The ranks.
    """
    cell = config.unit_cell or (reference.cell if reference else None)
    group = reference.space_group if reference else None
    if config.space_group is not None:
        group = space_group(config.space_group).hall
    if cell is None or group is None:
        group, cell = _majority(experiments or (), group, cell, comm)
    asu = AsymmetricUnit(space_group_of_hall(group), merge_anomalous=config.merge_anomalous)
    return Target(asu, gemmi.UnitCell(*cell), reference.by_key(asu) if reference else None, _load_cluster(config, comm))


def needs_lattices(config: MergeConfig, reference: ReferenceModel | None) -> bool:
    """Whether `find_target` has to look at the lattices."""
    return reference is None and (config.unit_cell is None or config.space_group is None)


def _majority(
    experiments: Sequence[Experiment],
    group: str | None,
    cell: CellParameters | None,
    comm: Communicator,
) -> tuple[str, CellParameters]:
    crystals = [experiment.crystal for experiment in experiments if experiment.crystal is not None]
    mine = [(crystal.space_group_hall, crystal.cell) for crystal in crystals]
    everyone = sorted(item for part in comm.allgather(mine) for item in part)
    if not everyone:
        raise NothingUsableError("no experiment has a crystal, so there is nothing to merge")
    counts = Counter(hall for hall, _ in everyone)
    hall = max(sorted(counts), key=lambda name: counts[name])
    median = np.median([item[1] for item in everyone if item[0] == hall], axis=0)
    a, b, c, alpha, beta, gamma = (float(value) for value in median)
    return group or hall, cell or (a, b, c, alpha, beta, gamma)


def load_reference(path: Path | None, config: MergeConfig, comm: Communicator) -> ReferenceModel | None:
    """Read a reference on rank 0 and share it; structure factors go a little beyond the resolution limit.

    Raises
    ------
    ConfigError, InputError
        It cannot be used; raised on every rank.
    """
    if path is None:
        return None
    d_min = None if config.d_min is None else config.d_min * config.resolution_scalar**2
    solvent, column = config.scaling.bulk_solvent, config.scaling.mtz_column
    return from_root(comm, lambda: read_reference(path, d_min=d_min, solvent=solvent, column=column))


def _load_cluster(config: MergeConfig, comm: Communicator) -> CellCluster | None:
    chosen = config.filter.unit_cell
    if not chosen.enabled or chosen.algorithm != "cluster" or chosen.cluster.file is None:
        return None
    path, component = Path(chosen.cluster.file), chosen.cluster.component
    return from_root(comm, lambda: load_cluster(path, component))
