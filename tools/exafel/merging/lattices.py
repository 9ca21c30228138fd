"""From one lattice's integrated reflections to observations that can be merged, or to the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import gemmi
import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.config.merge import MergeConfig, UnitCellFilterConfig
from exafel.errors import InputError
from exafel.io.crystal import CellParameters
from exafel.io.experiment import Experiment, ExperimentList
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.cluster import CellCluster
from exafel.merging.filters import same_laue_group, significant, similar_cells
from exafel.merging.halves import in_odd_half
from exafel.merging.polarization import polarization_factor
from exafel.merging.scaling import Reference, scale_to_reference

INTENSITY = "intensity.sum.value"
VARIANCE = "intensity.sum.variance"
REASONS = ("no_reflections", "n_obs", "space_group", "unit_cell", "no_signal", "correlation")
"""Why a lattice is left out, in the order of the checks."""


@dataclass(frozen=True, eq=False)
class Target:
    """What lattices are merged into.

    Parameters
    ----------
    asu
        Asymmetric unit of the space group.
    cell
        Cell that resolutions are of until the average cell is known.
    reference
        Intensities to scale to, or None.
    cluster
        Cluster of cells that lattices must belong to, or None.
    """

    asu: AsymmetricUnit
    cell: gemmi.UnitCell
    reference: Reference | None = None
    cluster: CellCluster | None = None


@dataclass(frozen=True, eq=False)
class Lattice:
    """One lattice that is merged.

    Parameters
    ----------
    digest
        Two numbers that stand for identifier and orientation: lattices are numbered in their order.
    cell, wavelength_angstrom
        Its unit cell (angstrom, degrees), and the wavelength of its shot.
    odd
        Whether it is in the odd half.
    scale, correlation
        Factor its intensities were multiplied by, and their correlation with the reference (NaN without one).
    n_integrated
        Number of integrated reflections, before any cut.
    keys, intensity, variance
        Its observations, shape (n,).
    """

    identifier: str
    digest: tuple[int, int]
    cell: CellParameters
    wavelength_angstrom: float
    odd: bool
    scale: float
    correlation: float
    n_integrated: int
    keys: IntArray
    intensity: FloatArray
    variance: FloatArray


def split_lattices(
    experiments: ExperimentList, table: ReflectionTable, part: int = 0, n_parts: int = 1
) -> Iterator[tuple[Experiment, ReflectionTable]]:
    """Yield every `n_parts`-th experiment, from number `part` on, with its usable integrated reflections.

    Usable is a reflection with finite intensity and a positive variance, and the flag of summation integration where
    the table has flags.

    Raises
    ------
    InputError
        A column is missing, or the table speaks of an experiment that the list does not have.
    """
    missing = [name for name in ("id", "miller_index", "s1", INTENSITY, VARIANCE) if name not in table]
    if missing:
        raise InputError(f"no column {missing[0]} in the reflection table", hint="merge needs integrated reflections")
    ids = table["id"]
    if len(ids) and int(ids.max()) >= len(experiments):
        raise InputError(f"reflections of experiment {int(ids.max())}, but there are {len(experiments)} experiments")
    usable = (table[VARIANCE] > 0) & np.isfinite(table[VARIANCE]) & np.isfinite(table[INTENSITY])
    if "flags" in table:
        usable &= table.has_flag(Flag.INTEGRATED_SUM)
    needed = ReflectionTable({name: table[name] for name in ("miller_index", "s1", INTENSITY, VARIANCE)})
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    ends = np.searchsorted(ids[rows], np.arange(len(experiments) + 1))
    for number in range(part, len(experiments), n_parts):
        yield experiments[number], needed.select(rows[ends[number] : ends[number + 1]])


def prepare_lattice(
    experiment: Experiment, table: ReflectionTable, target: Target, config: MergeConfig
) -> Lattice | str:
    """Filter, correct, cut and scale one lattice.

    Returns
    -------
    The lattice, or the reason (one of `REASONS`) why it is left out.
    """
    crystal = experiment.crystal
    if crystal is None or not len(table):
        return "no_reflections"
    if len(table) < config.filter.n_obs.min:
        return "n_obs"
    if config.filter.unit_cell.enabled:
        if not same_laue_group(crystal.space_group_hall, target.asu.space_group.hall):
            return "space_group"
        if not _cell_fits(crystal.cell, target, config.filter.unit_cell):
            return "unit_cell"
    hkl = table["miller_index"]
    intensity, variance = _corrected(experiment, table, config)
    d_star_sq = resolution(hkl, target.cell)
    kept = _kept(d_star_sq, intensity, variance, config)
    if not kept.any():
        return "no_signal"
    keys, intensity, variance = target.asu.keys(hkl[kept]), intensity[kept], variance[kept]
    scale, correlation = 1.0, float("nan")
    if config.scaling.algorithm == "mark0" and target.reference is not None:
        expected = target.reference.look_up(keys)
        known = np.isfinite(expected)
        found = scale_to_reference(intensity[known], expected[known])
        scale, correlation = found.scale, found.correlation
        if correlation < config.filter.outlier.min_corr or scale <= 0:
            return "correlation"
    return Lattice(
        identifier=experiment.identifier,
        digest=_digest(experiment),
        cell=crystal.cell,
        wavelength_angstrom=experiment.beam.wavelength_angstrom,
        odd=in_odd_half(experiment, config.statistics.halves),
        scale=scale,
        correlation=correlation,
        n_integrated=len(table),
        keys=keys,
        intensity=intensity * scale,
        variance=variance * scale**2,
    )


def _cell_fits(cell: CellParameters, target: Target, config: UnitCellFilterConfig) -> bool:
    if target.cluster is not None:
        return target.cluster.mahalanobis(cell) <= config.cluster.mahalanobis
    return similar_cells(cell, target.cell.parameters, config)


def _corrected(experiment: Experiment, table: ReflectionTable, config: MergeConfig) -> tuple[FloatArray, FloatArray]:
    intensity, variance = table[INTENSITY].astype(np.float64), table[VARIANCE].astype(np.float64)
    if not config.polarization.enabled:
        return intensity, variance
    factor = polarization_factor(table["s1"], experiment.beam, config.polarization.fraction)
    return intensity / factor, variance / factor**2


def _kept(d_star_sq: FloatArray, intensity: FloatArray, variance: FloatArray, config: MergeConfig) -> BoolArray:
    kept = np.ones(len(d_star_sq), dtype=bool)
    if config.significance_filter.enabled:
        kept = significant(d_star_sq, intensity / np.sqrt(variance), config.significance_filter)
    if config.d_min is not None:  # a margin, because the average cell is not known yet
        kept &= d_star_sq <= 1.0 / (config.d_min * config.resolution_scalar**2) ** 2
    return kept


def _digest(experiment: Experiment) -> tuple[int, int]:
    assert experiment.crystal is not None
    content = experiment.identifier.encode() + b"\0" + np.ascontiguousarray(experiment.crystal.real_space).tobytes()
    value = hashlib.sha256(content).digest()
    return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big")


def number_lattices(mine: AnyArray, everyone: AnyArray) -> IntArray:
    """Numbers of lattices by the sorted order of all digests: the same whatever rank or file a lattice was in.

    Parameters
    ----------
    mine, everyone
        Digests of this rank's and of all ranks' lattices, unsigned integers, shape (m, 2) and (n, 2).

    Raises
    ------
    InputError
        A lattice is there twice.
    """
    order = np.lexsort((everyone[:, 1], everyone[:, 0]))
    ordered = everyone[order]
    if len(ordered) > 1 and np.any(np.all(ordered[1:] == ordered[:-1], axis=1)):
        twice = int(np.all(ordered[1:] == ordered[:-1], axis=1).sum())
        raise InputError(
            f"{twice} lattices are in the input twice",
            hint="give each folder once; images of two runs need folders of different names",
        )
    first = np.searchsorted(ordered[:, 0], mine[:, 0])
    while True:  # digests that share their first number are all but impossible, yet must not be confused
        wrong = ordered[first, 1] != mine[:, 1]
        if not wrong.any():
            return first.astype(np.int64)
        first = first + wrong
