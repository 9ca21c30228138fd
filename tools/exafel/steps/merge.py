"""Merge integrated lattices: filter, correct, scale, group, fit errors, merge, and say how good the data are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from pydantic import Field

from exafel.config.merge import MergeConfig
from exafel.errors import NothingUsableError
from exafel.io.crystal import CellParameters
from exafel.io.events import Stage
from exafel.io.files import write_json
from exafel.io.mtz import write_mtz
from exafel.merging.combine import (
    LatticeTable,
    allowed,
    corrected_variance,
    finest_resolution,
    tabulate,
    take_observations,
)
from exafel.merging.consensus import find_target, load_reference, needs_lattices
from exafel.merging.ev11 import Ev11
from exafel.merging.group import group
from exafel.merging.inputs import Share, find_pairs, read_experiments, read_lattices, shares
from exafel.merging.lattices import REASONS, Lattice, Target, prepare_lattice
from exafel.merging.merge import Merged, join, merge
from exafel.merging.output import to_merged_data
from exafel.merging.report import shell_table
from exafel.merging.scaling import Reference
from exafel.merging.statistics import Shell, possible_reflections, shell_statistics
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths

MTZ_NAME = "merged.mtz"
STATISTICS_NAME = "statistics.json"


class MergeSummary(StepSummary):
    """What was merged, and how good it is."""

    n_lattices: int = Field(description="Lattices in the input.")
    n_accepted: int = Field(description="Lattices merged.")
    reasons: dict[str, int] = Field(description="Lattices left out, by reason.")
    n_observations_read: int = Field(description="Integrated reflections of the lattices merged.")
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
    r_split: float | None
    r_int: float | None
    half_scale: float | None
    cc_iso: float | None
    sdfac: float | None = Field(description="Error model ev11; None where it was not used.")
    sdb: float | None
    sdadd: float | None
    mean_correlation: float | None = Field(description="Mean correlation of the lattices with the reference.")
    shells: tuple[Shell, ...] = Field(description="Statistics by resolution shell.")


@dataclass(frozen=True, eq=False)
class _Lattices:
    """Accepted lattices of this rank, and all ranks' counts."""

    accepted: list[Lattice]
    reasons: dict[str, int]
    n_read: int
    n_accepted: int


@dataclass(frozen=True, eq=False)
class _Frame:
    """What the results are of: parameters, target, reference for CCiso, cell and resolution limit."""

    config: MergeConfig
    target: Target
    iso: Reference | None
    cell: CellParameters
    d_min: float


def request(config: MergeConfig, stills: Sequence[Path], out: Path) -> StepRequest:
    """Describe a merge of lattices.

    Parameters
    ----------
    config
        The parameters.
    stills
        Folders of the stills step, folders of DIALS files, or ``.expt`` files.
    out
        Folder for ``merged.mtz``, ``statistics.json`` and the manifest.

    Raises
    ------
    InputError
        An input does not exist, or is an experiment file without its reflection file.
    """
    inputs = {"stills": require_paths(tuple(stills), "stills folders")}
    named = [path for path in stills if path.is_file()]
    if named:  # their reflections decide the results too
        inputs["reflections"] = tuple(pair.refl for pair in find_pairs(named, config.input))
    models = tuple(Path(name) for name in (config.scaling.model, config.statistics.cciso_model) if name is not None)
    if models:
        inputs["reference"] = require_paths(models, "references")
    cluster = config.filter.unit_cell.cluster.file
    if config.filter.unit_cell.algorithm == "cluster" and cluster is not None:
        inputs["cells"] = require_paths((Path(cluster),), "cell clusters")
    return StepRequest("merge", config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> MergeSummary:
    """Merge lattices on all ranks.

    Raises
    ------
    InputError
        An input cannot be read.
    NothingUsableError
        No lattice passed the filters, or no reflection was measured often enough.
    """
    config = request.config
    assert isinstance(config, MergeConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(MergeSummary)
        with step.phase("input"):
            # one rank looks into the folders, not thousands
            pairs = from_root(comm, lambda: find_pairs(request.inputs["stills"], config.input))
            mine = shares(pairs, comm.rank, comm.size)
            target, iso = _target(config, mine, comm)
        with step.phase("lattices"):
            lattices = _read(mine, target, config, step, comm, hooks)
            table, numbers = tabulate(lattices.accepted, comm)
        cell = table.average_cell() if config.set_average_unit_cell else target.cell.parameters
        with step.phase("group"):
            local = take_observations(lattices.accepted, numbers)
            grouped = group(local, comm, config.slice_rows)
            del local
            margin = None if config.d_min is None else config.d_min * config.resolution_scalar
            grouped = allowed(grouped, target.asu, gemmi.UnitCell(*cell), margin)
        with step.phase("errors"):
            variance, errors = corrected_variance(grouped, config, comm)
        with step.phase("merge"):
            d_min = config.d_min or finest_resolution(grouped, target, gemmi.UnitCell(*cell), comm)
            parts = comm.gather(merge(grouped, variance).with_at_least(config.minimum_multiplicity))
        summary: MergeSummary | NothingUsableError | None = None
        if parts is not None:
            with step.phase("statistics"):
                frame = _Frame(config, target, iso, cell, d_min)
                summary = _conclude(join(parts), frame, lattices, table, errors, step, hooks)
        summary = comm.bcast(summary)
        if isinstance(summary, NothingUsableError):
            raise summary
        assert summary is not None
        return step.finish(summary)


def _target(config: MergeConfig, mine: Sequence[Share], comm: Communicator) -> tuple[Target, Reference | None]:
    """Settle what to merge into, and the reference that CCiso is with."""
    model = None if config.scaling.model is None else Path(config.scaling.model)
    reference = load_reference(model, config, comm)
    experiments = None
    if needs_lattices(config, reference):
        experiments = [experiment for share in mine for experiment in read_experiments(share)]
    target = find_target(config, experiments, reference, comm)
    if config.statistics.cciso_model is None:
        return target, target.reference
    iso = load_reference(Path(config.statistics.cciso_model), config, comm)
    return target, None if iso is None else iso.by_key(target.asu)


def _read(
    mine: Sequence[Share], target: Target, config: MergeConfig, step: StepRun, comm: Communicator, hooks: Hooks
) -> _Lattices:
    """Read and prepare this rank's lattices; stop where no rank has any."""
    accepted: list[Lattice] = []
    reasons: Counter[str] = Counter()
    n_read = 0
    with hooks.progress("merge: files", len(mine)) as progress:
        for number, share in enumerate(mine):
            shot = comm.rank + number * comm.size
            step.emit(Stage.START, shot)
            before = len(accepted)
            for experiment, table in read_lattices(share):
                outcome = prepare_lattice(experiment, table, target, config)
                n_read += 1
                if isinstance(outcome, Lattice):
                    accepted.append(outcome)
                else:
                    reasons[outcome] += 1
            step.emit(Stage.DONE, shot, len(accepted) - before)
            progress.update(number + 1, f"{len(accepted)} lattices")
    counts = [*(reasons[name] for name in REASONS), n_read, len(accepted)]
    totals = comm.allreduce_sum(np.array(counts, dtype=np.float64)).astype(int).tolist()
    left_out = {name: count for name, count in zip(REASONS, totals[:-2], strict=True) if count}
    if totals[-1] == 0:
        raise _nothing("no lattice passed the filters", totals[-2], left_out)
    return _Lattices(accepted, left_out, totals[-2], totals[-1])


def _nothing(what: str, n_lattices: int, reasons: dict[str, int]) -> NothingUsableError:
    listed = ", ".join(f"{name} {count}" for name, count in reasons.items()) or "none left out"
    return NothingUsableError(f"{what}: of {n_lattices} lattices: {listed}")


def _conclude(
    merged: Merged,
    frame: _Frame,
    lattices: _Lattices,
    table: LatticeTable,
    errors: Ev11 | None,
    step: StepRun,
    hooks: Hooks,
) -> MergeSummary | NothingUsableError:
    """Compute the statistics and write the files; rank 0 alone does it, from what all ranks merged."""
    config, asu = frame.config, frame.target.asu
    cell = gemmi.UnitCell(*frame.cell)
    possible = possible_reflections(asu, cell, frame.d_min, config.d_max, config.statistics.n_bins)
    merged = merged.take(possible.shell(asu.indices(merged.keys)) >= 0)
    if not len(merged):
        what = f"no reflection was measured {config.minimum_multiplicity} times between the resolution limits"
        return _nothing(what, lattices.n_read, lattices.reasons)
    shells, total = shell_statistics(merged, asu, possible, frame.iso)
    hooks.note(shell_table(shells, total))
    correlations = table.correlations[np.isfinite(table.correlations)]
    wavelength = float(table.wavelengths_angstrom.mean())
    shared = total.model_dump(include=set(MergeSummary.model_fields) & set(Shell.model_fields))
    summary = MergeSummary(
        **{**shared, "d_min": frame.d_min},
        n_lattices=lattices.n_read,
        n_accepted=lattices.n_accepted,
        reasons=lattices.reasons,
        n_observations_read=int(table.n_integrated.sum()),
        space_group=asu.space_group.xhm(),
        cell=frame.cell,
        wavelength_angstrom=wavelength,
        sdfac=None if errors is None else errors.sdfac,
        sdb=None if errors is None else errors.sdb,
        sdadd=None if errors is None else errors.sdadd,
        mean_correlation=float(correlations.mean()) if len(correlations) else None,
        shells=tuple(shells),
    )
    path = step.out / MTZ_NAME
    data = to_merged_data(merged, asu, frame.cell, wavelength)
    write_mtz(path, data)
    step.add_container(path, "mtz", rows=len(data.hkl))
    path = step.out / STATISTICS_NAME
    write_json(path, {**summary.model_dump(mode="json"), "total": total.model_dump(mode="json")})
    step.add_container(path, "statistics", rows=len(shells))
    return summary
