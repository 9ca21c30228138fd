"""Scaled lattices for other programs: as DIALS' files, and as the rows of an unmerged MTZ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from exafel.arrays import FloatArray
from exafel.config.merge import MergeConfig
from exafel.io.crystal import CellParameters
from exafel.io.experiment import Experiment, ExperimentList
from exafel.io.expt import write_expt
from exafel.io.refl import write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.io.unmerged_mtz import UnmergedData, write_unmerged_mtz
from exafel.merging.ambiguity import Ambiguity, reindex
from exafel.merging.combine import Grouped
from exafel.merging.error_models import ErrorModel
from exafel.merging.group import Observations
from exafel.merging.lattices import ESTIMATES, Lattice, Target
from exafel.merging.passes import Prepared, Source, Tally, prepared_share
from exafel.merging.prepare import corrected
from exafel.parallel.comm import Communicator


def write_scaled(
    source: Source, target: Target, digests: FloatArray, config: MergeConfig, folder: Path
) -> Iterator[tuple[Path, Path, int]]:
    """Write the lattices that were merged as DIALS' scaled files, one pair a file that was read.

    As there, the final intensity is ``intensity.scale.value / inverse_scale_factor``, which is corrected for
    polarization, on the common scale and, where there was postrefinement, of the full reflection; and so for
    variances, which no error model has widened. Indices and crystals are those after reindexing.

    Parameters
    ----------
    source, target, config
        What the lattices are read and prepared with, as for merging.
    digests
        Of the lattices that were merged, shape (n, 2).
    folder
        Where the files go.

    Yields
    ------
    The two files and the number of reflections in them, for each share of this rank.
    """
    merged = {tuple(digest) for digest in digests.tolist()}
    for number, share in enumerate(source.shares):
        experiments, tables = ExperimentList(), []
        for item in prepared_share(share, target, config, Tally()):
            if item[2].digest in merged:
                tables.append(_scaled(item, target.ambiguity, config, len(experiments)))
                experiments.append(_reindexed(item[0], item[2], target.ambiguity))
        if not tables:
            continue
        stem = f"scaled-{source.comm.rank + number * source.comm.size:05d}"
        expt, refl = folder / f"{stem}.expt", folder / f"{stem}.refl"
        names = {place: experiment.identifier for place, experiment in enumerate(experiments)}
        rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        write_expt(expt, experiments)
        write_refl(refl, ReflectionTable(rows, names))
        yield expt, refl, len(rows["id"])


def _scaled(item: Prepared, ambiguity: Ambiguity | None, config: MergeConfig, number: int) -> ReflectionTable:
    experiment, table, lattice = item
    intensity, variance = corrected(experiment, table, config)
    chosen = table.select(lattice.rows)
    hkl = chosen["miller_index"]
    if ambiguity is not None:
        hkl = reindex(hkl, ambiguity.operators[lattice.reindexed])
    n = len(chosen)
    partiality = np.ones(n) if lattice.partiality is None else lattice.partiality
    columns = {
        **chosen.columns,
        "id": np.full(n, number, dtype=np.int32),
        "miller_index": hkl.astype(np.int32),
        "intensity.scale.value": intensity[lattice.rows],
        "intensity.scale.variance": variance[lattice.rows],
        "inverse_scale_factor": 1.0 / lattice.factor,
        "inverse_scale_factor_variance": np.zeros(n),  # dials.export asks for it
        "postrefinement.partiality": partiality,  # not `partiality`, by which DIALS would leave full reflections out
        "flags": np.full(n, int(ESTIMATES[config.intensities].flag | Flag.SCALED), dtype=np.uint64),
    }
    return ReflectionTable(columns)


def _reindexed(experiment: Experiment, lattice: Lattice, ambiguity: Ambiguity | None) -> Experiment:
    """Return the experiment with the basis that its reindexed reflections are of: h' = h W goes with a' = W^T a."""
    if ambiguity is None or not lattice.reindexed or experiment.crystal is None:
        return experiment
    basis = ambiguity.operators[lattice.reindexed].T @ experiment.crystal.real_space
    return replace(experiment, crystal=replace(experiment.crystal, real_space=basis))


def write_observations(
    path: Path, grouped: Grouped, errors: ErrorModel, cell: CellParameters, comm: Communicator
) -> int:
    """Write the observations as they were merged, with the errors of the error model, as one unmerged MTZ.

    Rank 0 holds them all for it.

    Returns
    -------
    Number of observations, on rank 0; 0 on the others.
    """
    rows = [(part.order, part.intensity, np.sqrt(errors.variance(part))) for part in grouped.parts()]
    everyone = comm.gather(rows)
    if everyone is None:
        return 0
    order, intensity, sigma = (
        np.concatenate([part[place] for ranks_rows in everyone for part in ranks_rows]) for place in range(3)
    )
    sorted_rows = np.argsort(order, kind="stable")
    sigma = sigma[sorted_rows]
    found = Observations(order[sorted_rows], intensity[sorted_rows], sigma**2)
    table = grouped.gathered.table
    data = UnmergedData(
        grouped.asu.indices(found.keys),
        found.lattices,
        found.intensity,
        sigma,
        table.cells,
        table.wavelengths_angstrom,
    )
    write_unmerged_mtz(path, data, cell, grouped.asu.space_group.xhm())
    return len(found)
