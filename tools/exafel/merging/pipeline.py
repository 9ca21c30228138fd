"""The passes over all lattices that a merge is made of: ambiguity, cycles of scaling, lattices that harm left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import gemmi
import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.config.merge import MergeConfig
from exafel.config.scaling import BrehmDiederichsConfig, NoReindexingConfig, ReferenceReindexingConfig
from exafel.errors import NothingUsableError
from exafel.merging.ambiguity import Ambiguity, reindexing_operators
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.combine import Grouped
from exafel.merging.delta_cc import delta_cc_half, outliers
from exafel.merging.lattices import Target
from exafel.merging.passes import Gathered, Source, Tally, Watch, gather_lattices, prepared
from exafel.merging.prepare import corrected
from exafel.merging.reference import ReferenceModel
from exafel.merging.scaling import Reference
from exafel.parallel.comm import Communicator, from_root

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Scaled:
    """All lattices on one scale.

    Parameters
    ----------
    gathered
        The lattices.
    target
        What they were brought to.
    n_cycles
        Cycles of scaling to their own merged intensities.
    """

    gathered: Gathered
    target: Target
    n_cycles: int = 0


def with_ambiguity(
    source: Source, target: Target, model: ReferenceModel | None, config: MergeConfig, note: Note
) -> Target:
    """Add the indexings that lattices choose from, where the configuration asks for it and the lattice has several.

    Parameters
    ----------
    model
        The reference to agree with, where one is configured.
    """
    chosen = config.reindexing
    if isinstance(chosen, NoReindexingConfig):
        return target
    asu = AsymmetricUnit(target.asu.space_group, merge_anomalous=True)
    operators = reindexing_operators(asu.space_group, target.cell, chosen.max_obliquity_deg)
    if len(operators) == 1:
        note(f"no indexing ambiguity in {asu.space_group.xhm()} with this cell")
        return target
    if isinstance(chosen, ReferenceReindexingConfig):
        assert model is not None  # the configuration has seen to it
        return replace(target, ambiguity=Ambiguity(operators, asu, model.by_key(asu)))
    return replace(target, ambiguity=_ambiguity_of_sample(source, target, operators, asu, config, chosen))


def _ambiguity_of_sample(
    source: Source,
    target: Target,
    operators: FloatArray,
    asu: AsymmetricUnit,
    config: MergeConfig,
    chosen: BrehmDiederichsConfig,
) -> Ambiguity:
    from exafel.merging import brehm  # its optimizer takes a tenth of a second to import

    plain = replace(target, reference=None)
    mine: list[brehm.SampledLattice] = []
    for experiment, table, lattice in prepared(source, plain, config, Tally()):
        intensity, _ = corrected(experiment, table, config)
        hkl = table["miller_index"][lattice.rows]
        d_star_sq = resolution(hkl, target.cell)
        mine.append(brehm.SampledLattice(lattice.digest, hkl, intensity[lattice.rows], d_star_sq))
        if len(mine) > 2 * chosen.max_lattices:
            mine = brehm.sample(mine, chosen.max_lattices)
    gathered = source.comm.gather(brehm.sample(mine, chosen.max_lattices))

    def resolve() -> Reference:
        everyone = brehm.sample([item for part in gathered or () for item in part], chosen.max_lattices)
        if not everyone:
            raise NothingUsableError("no lattice passed the filters, so there is no indexing to choose")
        return brehm.resolve(everyone, operators, asu, chosen)[1]

    return Ambiguity(operators, asu, from_root(source.comm, resolve))


def scale_lattices(source: Source, target: Target, config: MergeConfig, watch: Watch, note: Note) -> Scaled:
    """Read all lattices and bring them to the reference, or in cycles to what they give together."""
    if config.scaling.algorithm != "self":
        return Scaled(gather_lattices(source, target, config, watch), target)
    options = config.scaling.self_reference
    gathered = gather_lattices(source, target, config, watch)
    for cycle in range(1, options.max_cycles + 1):
        target = replace(target, reference=own_reference(gathered, source.comm))
        before = gathered.table
        gathered.store.clear()
        gathered = gather_lattices(source, target, config)
        change = _scale_change(before.digests, before.scales, gathered.table.digests, gathered.table.scales)
        note(f"cycle {cycle}: {len(gathered.table)} lattices, scales changed by {change:.4f}")
        if change < options.tolerance:
            break
    return Scaled(gathered, target, cycle)


def own_reference(gathered: Gathered, comm: Communicator) -> Reference:
    """Mean intensities of the lattices, Bijvoet mates together, to scale each of them to.

    An observation weighs as 1/scale^2, as if all had the same error before they were scaled: weights by their own
    errors would draw means to the weaker ones. The overall scale is such that the scales' geometric mean stays 1.
    """
    scales = gathered.table.scales
    weights = scales**-2.0
    overall = float(np.exp(np.mean(np.log(scales))))
    keys, means = [], []
    for part in gathered.store.parts():
        base = part.keys >> 1
        starts = np.flatnonzero(np.append(True, base[1:] != base[:-1])) if len(base) else base
        counts = np.diff(np.append(starts, len(base)))
        weight = weights[part.lattices]
        total = np.add.reduceat(weight, starts) if len(base) else weight
        mean = (np.add.reduceat(weight * part.intensity, starts) if len(base) else weight) / total
        keys.append(base[starts][counts >= 2])
        means.append(mean[counts >= 2] / overall)
    everyone = comm.allgather((np.concatenate(keys), np.concatenate(means)))
    base, mean = (np.concatenate([part[place] for part in everyone]) for place in (0, 1))
    return Reference.of(np.concatenate([2 * base, 2 * base + 1]), np.concatenate([mean, mean]))


def _scale_change(first_of: IntArray, first: FloatArray, second_of: IntArray, second: FloatArray) -> float:
    """Rms change of the logarithm of the scales of the lattices (digests of shape (n, 2)) that both cycles have."""
    before = {tuple(name): value for name, value in zip(first_of.tolist(), np.log(first).tolist(), strict=True)}
    after = zip(second_of.tolist(), np.log(second).tolist(), strict=True)
    changes = np.array([value - before[tuple(name)] for name, value in after if tuple(name) in before])
    return float(changes.std()) if len(changes) else 0.0


def leave_out_harmful(grouped: Grouped, config: MergeConfig, comm: Communicator, note: Note) -> Grouped:
    """Leave lattices out that take from CC1/2, in rounds, until none stands out or the configured rounds are over.

    Returns
    -------
    The share of the lattices that stay, with their reasons counted; the cell stays that of all.
    """
    options = config.filter.delta_cc_half
    for _ in range(options.max_rounds if options.enabled else 0):
        gathered = grouped.gathered
        cc_half, delta = delta_cc_half(grouped.parts, len(gathered.table), comm)
        bad = outliers(delta, options.n_sigma)
        if not len(bad) or not np.isfinite(cc_half):
            break
        note(f"CC1/2 {cc_half:.4f}; {len(bad)} lattices take from it and are left out")
        grouped = replace(grouped, gathered=_without(gathered, bad))
    return grouped


def _without(gathered: Gathered, bad: IntArray) -> Gathered:
    stay = np.ones(len(gathered.table), dtype=bool)
    stay[bad] = False
    gathered.store.renumber(np.where(stay, np.cumsum(stay) - 1, -1))
    reasons = {**gathered.reasons}
    reasons["delta_cc_half"] = reasons.get("delta_cc_half", 0) + len(bad)
    return replace(gathered, table=gathered.table.take(stay), reasons=reasons)


def grouped_by_reflection(scaled: Scaled, config: MergeConfig) -> Grouped:
    """Give this rank's share of the scaled observations, in the cell that results are of."""
    table, target = scaled.gathered.table, scaled.target
    cell = table.average_cell() if config.set_average_unit_cell else target.cell.parameters
    margin = None if config.d_min is None else config.d_min * config.resolution_scalar
    return Grouped(scaled.gathered, target.asu, gemmi.UnitCell(*cell), margin)
