"""From one lattice's integrated reflections to observations that can be merged, or to the reason why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.config.merge import MergeConfig, UnitCellFilterConfig
from exafel.io.crystal import CellParameters, Crystal
from exafel.io.experiment import Experiment
from exafel.io.reflections import ReflectionTable
from exafel.merging.ambiguity import reindex
from exafel.merging.asu import resolution
from exafel.merging.filters import same_laue_group, significant, similar_cells
from exafel.merging.halves import in_odd_half
from exafel.merging.lattices import ESTIMATES, Lattice, Target
from exafel.merging.polarization import polarization_factor
from exafel.merging.postrefine import StillObservations, postrefine
from exafel.merging.scaling import scale_to_merged, scale_to_reference


@dataclass(frozen=True, eq=False)
class _Scaled:
    """What brings a lattice to the reference: a factor an observation, and which observations stay."""

    scale: float
    correlation: float
    factor: FloatArray
    kept: BoolArray
    partiality: FloatArray | None = None


def prepare_lattice(
    experiment: Experiment, table: ReflectionTable, target: Target, config: MergeConfig
) -> Lattice | str:
    """Filter, correct, cut, reindex, scale and postrefine one lattice.

    Returns
    -------
    The lattice, or the reason (one of `exafel.merging.lattices.REASONS`) why it is left out.
    """
    crystal = experiment.crystal
    reason = _unfit(crystal, table, target, config)
    if reason is not None:
        return reason
    assert crystal is not None
    intensity, variance = corrected(experiment, table, config)
    hkl = table["miller_index"]
    rows = np.flatnonzero(_kept(resolution(hkl, target.cell), intensity, variance, config))
    if not len(rows):
        return "no_signal"
    hkl, intensity, variance = hkl[rows], intensity[rows], variance[rows]
    reindexed, keys = _indexed(hkl, intensity, target)
    scaled = _scaled(experiment, hkl, keys, intensity, variance, target, config)
    if isinstance(scaled, str):
        return scaled
    if not scaled.kept.all():
        keys, rows = keys[scaled.kept], rows[scaled.kept]
        intensity, variance = intensity[scaled.kept], variance[scaled.kept]
    factor = scaled.factor[scaled.kept]
    return Lattice(
        identifier=experiment.identifier,
        digest=lattice_digest(experiment.identifier, crystal),
        cell=crystal.cell,
        wavelength_angstrom=experiment.beam.wavelength_angstrom,
        odd=in_odd_half(experiment, config.statistics.halves),
        scale=scaled.scale,
        correlation=scaled.correlation,
        n_integrated=len(table),
        keys=keys,
        intensity=intensity * factor,
        variance=variance * factor**2,
        rows=rows,
        factor=factor,
        partiality=None if scaled.partiality is None else scaled.partiality[scaled.kept],
        reindexed=reindexed,
    )


def _unfit(crystal: Crystal | None, table: ReflectionTable, target: Target, config: MergeConfig) -> str | None:
    """Why a lattice is left out before its intensities are looked at; None where it is not."""
    if crystal is None or not len(table):
        return "no_reflections"
    if len(table) < config.filter.n_obs.min:
        return "n_obs"
    if config.filter.unit_cell.enabled:
        if not same_laue_group(crystal.space_group_hall, target.asu.space_group.hall):
            return "space_group"
        if not _cell_fits(crystal.cell, target, config.filter.unit_cell):
            return "unit_cell"
    return None


def _cell_fits(cell: CellParameters, target: Target, config: UnitCellFilterConfig) -> bool:
    if target.cluster is not None:
        return target.cluster.mahalanobis(cell) <= config.cluster.mahalanobis
    return similar_cells(cell, target.cell.parameters, config)


def corrected(experiment: Experiment, table: ReflectionTable, config: MergeConfig) -> tuple[FloatArray, FloatArray]:
    """Intensities and variances after the correction for polarization, shape (n,)."""
    estimate = ESTIMATES[config.intensities]
    intensity, variance = (table[name].astype(np.float64) for name in (estimate.intensity, estimate.variance))
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


def _indexed(hkl: AnyArray, intensity: FloatArray, target: Target) -> tuple[int, IntArray]:
    """Number of the operator that the lattice is reindexed by, and its keys."""
    if target.ambiguity is None:
        return 0, target.asu.keys(hkl)
    chosen = target.ambiguity.choose(hkl, intensity)
    return chosen, target.asu.keys(reindex(hkl, target.ambiguity.operators[chosen]))


def _scaled(
    experiment: Experiment,
    hkl: AnyArray,
    keys: IntArray,
    intensity: FloatArray,
    variance: FloatArray,
    target: Target,
    config: MergeConfig,
) -> _Scaled | str:
    n = len(keys)
    if config.scaling.algorithm == "mark1" or target.reference is None:
        return _Scaled(1.0, float("nan"), np.ones(n), np.ones(n, dtype=bool))
    expected = target.reference.look_up(keys)
    known = np.isfinite(expected)
    method = scale_to_merged if config.scaling.algorithm == "self" else scale_to_reference
    found = method(intensity[known], expected[known])
    if found.correlation < config.filter.outlier.min_corr or found.scale <= 0:
        return "correlation"
    if not config.postrefinement.enabled:
        return _Scaled(found.scale, found.correlation, np.full(n, found.scale), np.ones(n, dtype=bool))
    assert experiment.crystal is not None
    nodes = np.ascontiguousarray(hkl @ experiment.crystal.A.T)
    s0 = experiment.beam.s0
    data = StillObservations(nodes[known], s0, intensity[known], variance[known], expected[known])
    refined = postrefine(data, config.postrefinement)
    if refined is None:
        return "postrefinement"
    weakened, partiality = refined.factors(nodes, s0)
    kept = partiality > config.postrefinement.partiality_threshold
    return _Scaled(1.0 / float(refined.values[0]), refined.correlation, 1.0 / weakened, kept, partiality)


def lattice_digest(identifier: str, crystal: Crystal) -> tuple[int, int]:
    """Two numbers that stand for a lattice, whatever file it is in."""
    content = identifier.encode() + b"\0" + np.ascontiguousarray(crystal.real_space).tobytes()
    value = hashlib.sha256(content).digest()
    return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big")
