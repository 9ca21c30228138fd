"""Merge integrated lattices: filter, correct, reindex, scale, postrefine, fit errors, merge, and say how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exafel.config.merge import MergeConfig
from exafel.config.scaling import ReferenceReindexingConfig
from exafel.errors import ConfigError
from exafel.io.events import Stage
from exafel.io.manifest import read_manifest, verify_containers
from exafel.merging.accumulators import Accumulators, differing_keys, read_accumulators
from exafel.merging.combine import Grouped, finest_resolution, fit_and_merge
from exafel.merging.consensus import find_target, load_reference, needs_lattices
from exafel.merging.inputs import Share, find_pairs, read_experiments, shares
from exafel.merging.lattices import Target
from exafel.merging.merge import join
from exafel.merging.passes import Source, Watch
from exafel.merging.pipeline import (
    Note,
    Scaled,
    grouped_by_reflection,
    leave_out_harmful,
    scale_lattices,
    with_ambiguity,
)
from exafel.merging.reference import ReferenceModel
from exafel.merging.scaling import Reference
from exafel.merging.totals import Totals
from exafel.merging.unmerged import write_observations, write_scaled
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, Progress, StepRequest, StepRun, require_paths
from exafel.steps.merge_results import MTZ_NAME, STATISTICS_NAME, Frame, MergeSummary, conclude

__all__ = ["MTZ_NAME", "STATISTICS_NAME", "MergeSummary", "request", "run"]

UNMERGED_NAME = "unmerged.mtz"
_MAY_DIFFER = ("input", "slice_rows", "rows_in_memory", "accumulate", "output")
"""Sections of the configuration in which a merge may differ from the one that it is added to."""


def request(config: MergeConfig, stills: Sequence[Path], out: Path, *, onto: Path | None = None) -> StepRequest:
    """Describe a merge of lattices.

    Parameters
    ----------
    config
        The parameters.
    stills
        Folders of the stills step, folders of DIALS files, or ``.expt`` files.
    out
        Folder for ``merged.mtz``, ``statistics.json`` and the manifest.
    onto
        Folder of an earlier merge that these lattices are added to.

    Raises
    ------
    InputError
        An input does not exist, or is an experiment file without its reflection file.
    ConfigError
        The merge to add to kept no sums, or its parameters were others.
    """
    inputs = {"stills": require_paths(tuple(stills), "stills folders")}
    named = [path for path in stills if path.is_file()]
    if named:  # their reflections decide the results too
        inputs["reflections"] = tuple(pair.refl for pair in find_pairs(named, config.input))
    reindexing = config.reindexing.model if isinstance(config.reindexing, ReferenceReindexingConfig) else None
    names = (config.scaling.model, config.statistics.cciso_model, reindexing)
    models = tuple(Path(name) for name in names if name is not None)
    if models:
        inputs["reference"] = require_paths(models, "references")
    cluster = config.filter.unit_cell.cluster.file
    if config.filter.unit_cell.algorithm == "cluster" and cluster is not None:
        inputs["cells"] = require_paths((Path(cluster),), "cell clusters")
    if onto is not None:
        _check_base(onto, config)
        inputs["onto"] = (onto,)
    return StepRequest("merge", config, inputs, out)


def _check_base(folder: Path, config: MergeConfig) -> None:
    """Check that a merge can be added to."""
    manifest = read_manifest(folder)
    if not config.accumulate or not manifest.files(folder, "accumulators"):
        raise ConfigError(
            "it kept no sums that could be added to", where=folder, hint="set merge.accumulate in both merges"
        )
    verify_containers(folder, manifest)
    differing = differing_keys(manifest.config, config.model_dump(mode="json"), _MAY_DIFFER)
    if differing:
        raise ConfigError(f"it was made with other parameters: merge.{differing[0]} differs", where=folder)


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
        source, target, iso = _open(request, config, step, comm, hooks)
        with step.phase("lattices"):
            scaled = _scale(source, target, config, step, hooks)
            grouped = grouped_by_reflection(scaled, config)
            grouped = leave_out_harmful(grouped, config, comm, _on_root(hooks, comm))
        try:
            summary = _merge(grouped, scaled, iso, step, comm, hooks)
        finally:
            grouped.gathered.store.clear()
        if config.output.scaled:
            with step.phase("scaled"):
                _write_scaled(source, scaled.target, grouped, config, step)
        return step.finish(summary)


def _write_scaled(source: Source, target: Target, grouped: Grouped, config: MergeConfig, step: StepRun) -> None:
    for expt, refl, rows in write_scaled(source, target, grouped.gathered.table.digests, config, step.out):
        step.add_container(expt, "scaled_expt", rows=rows)
        step.add_container(refl, "scaled_refl", rows=rows)


def _open(
    request: StepRequest, config: MergeConfig, step: StepRun, comm: Communicator, hooks: Hooks
) -> tuple[Source, Target, Reference | None]:
    """Find this rank's lattices, what to merge into, and the reference that CCiso is with."""
    with step.phase("input"):
        # one rank looks into the folders, not thousands
        pairs = from_root(comm, lambda: find_pairs(request.inputs["stills"], config.input))
        mine = shares(pairs, comm.rank, comm.size)
        source = Source(mine, step.work / f"rank-{comm.rank:05d}", comm)
        model = _load(config.scaling.model, config, comm)
        target = _target(config, mine, model, comm)
        iso = target.reference
        if config.statistics.cciso_model is not None:
            other = _load(config.statistics.cciso_model, config, comm)
            iso = None if other is None else other.by_key(target.asu)
    if config.reindexing.algorithm != "none":
        with step.phase("ambiguity"):
            named = config.reindexing.model if isinstance(config.reindexing, ReferenceReindexingConfig) else None
            agree_with = model if named is None else _load(named, config, comm)
            target = with_ambiguity(source, target, agree_with, config, _on_root(hooks, comm))
    return source, target, iso


def _load(name: str | None, config: MergeConfig, comm: Communicator) -> ReferenceModel | None:
    return load_reference(None if name is None else Path(name), config, comm)


def _target(config: MergeConfig, mine: Sequence[Share], model: ReferenceModel | None, comm: Communicator) -> Target:
    experiments = None
    if needs_lattices(config, model):
        experiments = [experiment for share in mine for experiment in read_experiments(share)]
    return find_target(config, experiments, model, comm)


def _scale(source: Source, target: Target, config: MergeConfig, step: StepRun, hooks: Hooks) -> Scaled:
    with hooks.progress("merge: files", len(source.shares)) as progress:
        watch = _watch(step, progress, source.comm)
        return scale_lattices(source, target, config, watch, _on_root(hooks, source.comm))


def _watch(step: StepRun, progress: Progress, comm: Communicator) -> Watch:
    """What turns the progress of a pass into events and a progress bar."""
    before = 0

    def watch(share: int, n_accepted: int, done: bool) -> None:
        nonlocal before
        shot = comm.rank + share * comm.size
        if not done:
            before = n_accepted
            step.emit(Stage.START, shot)
            return
        step.emit(Stage.DONE, shot, n_accepted - before)
        progress.update(share + 1, f"{n_accepted} lattices")

    return watch


def _on_root(hooks: Hooks, comm: Communicator) -> Note:
    return hooks.note if comm.rank == 0 else QUIET.note


def _merge(
    grouped: Grouped, scaled: Scaled, iso: Reference | None, step: StepRun, comm: Communicator, hooks: Hooks
) -> MergeSummary:
    """Merge this rank's share; rank 0 puts the shares together, adds them to the earlier merge, and concludes."""
    config = step.request.config
    assert isinstance(config, MergeConfig)
    with step.phase("merge"):
        merged, errors = fit_and_merge(grouped, scaled.target.reference, config, comm)
        d_min = config.d_min or finest_resolution(merged, grouped.asu, grouped.cell, comm)
        parts = comm.gather(merged if config.accumulate else merged.with_at_least(config.minimum_multiplicity))
        if config.output.unmerged_mtz:
            path = step.out / UNMERGED_NAME
            rows = write_observations(path, grouped, errors, grouped.cell.parameters, comm)
            if comm.rank == 0:
                step.add_container(path, "unmerged_mtz", rows=rows)

    def concluded() -> MergeSummary:
        assert parts is not None
        gathered = grouped.gathered
        found = Accumulators(join(parts), Totals.of(gathered), gathered.table.digests)
        n_before = 0
        for folder in step.request.inputs.get("onto", ()):
            (path,) = read_manifest(folder).files(folder, "accumulators")
            earlier = read_accumulators(path)
            n_before = earlier.totals.n_accepted
            found = earlier.plus(found)
        cell = found.totals.average_cell if config.set_average_unit_cell else scaled.target.cell.parameters
        frame = Frame(config, scaled.target, iso, cell, d_min, errors, scaled.n_cycles, n_before)
        return conclude(found, frame, step, hooks)

    with step.phase("statistics"):
        return from_root(comm, concluded)
