"""What the merge step returns and writes: summary, statistics, MTZ, accumulators."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
from pydantic import Field

from exafel.config.merge import MergeConfig
from exafel.io.crystal import CellParameters
from exafel.io.files import write_json
from exafel.io.mtz import write_mtz
from exafel.merging.accumulators import ACCUMULATORS_NAME, Accumulators, write_accumulators
from exafel.merging.checks import Checks, check_intensities
from exafel.merging.error_models import ErrorModel
from exafel.merging.lattices import Target
from exafel.merging.output import to_merged_data
from exafel.merging.passes import nothing_left
from exafel.merging.report import shell_table
from exafel.merging.scaling import Reference
from exafel.merging.statistics import Shell, possible_reflections, shell_statistics
from exafel.steps.base import Hooks, StepRun, StepSummary

MTZ_NAME = "merged.mtz"
STATISTICS_NAME = "statistics.json"


class MergeSummary(StepSummary):
    """What was merged, and how good it is."""

    n_lattices: int = Field(description="Lattices in the input.")
    n_accepted: int = Field(description="Lattices merged.")
    reasons: dict[str, int] = Field(description="Lattices left out, by reason.")
    n_observations_read: int = Field(description="Integrated reflections of the lattices merged.")
    n_added_to: int = Field(0, description="Lattices of the earlier merge that these were added to.")
    n_cycles: int = Field(0, description="Cycles of scaling to the lattices' own merged intensities.")
    reindexed: dict[str, int] = Field({}, description="Lattices by indexing, where there is a choice.")
    space_group: str = Field(description="Hermann-Mauguin symbol.")
    cell: CellParameters = Field(description="Cell of statistics and MTZ, angstrom and degrees.")
    wavelength_angstrom: float = Field(description="Mean wavelength.")
    d_min: float = Field(description="High resolution limit, angstrom.")
    n_obs: int = Field(description="Observations merged.")
    n_unique: int = Field(description="Unique reflections merged.")
    completeness: float
    multiplicity: float | None
    mean_i_over_sigma: float | None
    cc_half: float | None
    cc_half_random: float | None = None
    cc_half_random_sd: float | None = None
    r_split: float | None
    r_int: float | None
    half_scale: float | None
    cc_iso: float | None
    n_anom: int = 0
    cc_anom: float | None = None
    anom_signal: float | None = None
    error_model: str = Field("", description="Name of the error model.")
    error_parameters: dict[str, float] = Field({}, description="Its parameters.")
    sdfac: float | None = Field(description="Error model ev11; None where it was not used.")
    sdb: float | None
    sdadd: float | None
    mean_correlation: float | None = Field(description="Mean correlation of the lattices with the reference.")
    checks: Checks | None = Field(None, description="Wilson plot, second moments, twinning.")
    shells: tuple[Shell, ...] = Field(description="Statistics by resolution shell.")


@dataclass(frozen=True, eq=False)
class Frame:
    """What the results are of.

    Parameters
    ----------
    config, target
        The parameters, and what was merged into.
    iso
        Reference for CCiso, or None.
    cell, d_min
        Cell (angstrom, degrees) and resolution limit (angstrom).
    errors
        The error model.
    n_cycles, n_added_to
        Cycles of scaling; lattices of the earlier merge.
    """

    config: MergeConfig
    target: Target
    iso: Reference | None
    cell: CellParameters
    d_min: float
    errors: ErrorModel
    n_cycles: int = 0
    n_added_to: int = 0


def conclude(accumulators: Accumulators, frame: Frame, step: StepRun, hooks: Hooks) -> MergeSummary:
    """Compute the statistics and write the files; rank 0 alone does it, from what all ranks merged.

    Raises
    ------
    NothingUsableError
        No reflection was measured often enough.
    """
    config, asu, totals = frame.config, frame.target.asu, accumulators.totals
    cell = gemmi.UnitCell(*frame.cell)
    possible = possible_reflections(asu, cell, frame.d_min, config.d_max, config.statistics.n_bins)
    merged = accumulators.merged.with_at_least(config.minimum_multiplicity)
    merged = merged.take(possible.shell(asu.indices(merged.keys)) >= 0)
    if not len(merged):
        what = f"no reflection was measured {config.minimum_multiplicity} times between the resolution limits"
        raise nothing_left(what, totals.n_read, totals.reasons)
    shells, total = shell_statistics(merged, asu, possible, frame.iso)
    hooks.note(shell_table(shells, total))
    summary = _summary(accumulators, frame, shells, total, check_intensities(merged, asu, cell))
    path = step.out / MTZ_NAME
    data = to_merged_data(merged, asu, frame.cell, totals.wavelength_angstrom)
    write_mtz(path, data)
    step.add_container(path, "mtz", rows=len(data.hkl))
    path = step.out / STATISTICS_NAME
    write_json(path, {**summary.model_dump(mode="json"), "total": total.model_dump(mode="json")})
    step.add_container(path, "statistics", rows=len(shells))
    if config.accumulate:
        path = step.out / ACCUMULATORS_NAME
        write_accumulators(path, accumulators)
        step.add_container(path, "accumulators", rows=len(accumulators.merged))
    return summary


def _summary(
    accumulators: Accumulators, frame: Frame, shells: list[Shell], total: Shell, checks: Checks
) -> MergeSummary:
    totals, parameters = accumulators.totals, frame.errors.parameters()
    shared = total.model_dump(include=set(MergeSummary.model_fields) & set(Shell.model_fields))
    ambiguity = frame.target.ambiguity
    return MergeSummary(
        **{**shared, "d_min": frame.d_min},
        n_lattices=totals.n_read,
        n_accepted=totals.n_accepted,
        reasons=totals.reasons,
        n_observations_read=totals.n_integrated,
        n_added_to=frame.n_added_to,
        n_cycles=frame.n_cycles,
        reindexed={} if ambiguity is None else {ambiguity.label(n): count for n, count in totals.reindexed.items()},
        space_group=frame.target.asu.space_group.xhm(),
        cell=frame.cell,
        wavelength_angstrom=totals.wavelength_angstrom,
        error_model=frame.config.error.model,
        error_parameters=parameters,
        sdfac=parameters.get("sdfac"),
        sdb=parameters.get("sdb"),
        sdadd=parameters.get("sdadd"),
        mean_correlation=totals.mean_correlation,
        checks=checks,
        shells=tuple(shells),
    )
