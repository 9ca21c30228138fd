"""Compare lattices and merged intensities with the truth that the images were simulated from."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np

from exafel.bragg.evaluate import intensity_agreement
from exafel.bragg.structure_factors import structure_factor_table
from exafel.config.base import Model
from exafel.config.evaluate import EvaluateSfxConfig
from exafel.errors import ConfigError, InputError, NothingUsableError
from exafel.io.crystal import Crystal, space_group_of_hall
from exafel.io.expt import read_expt
from exafel.io.manifest import MANIFEST_NAME, read_manifest
from exafel.io.mtz import read_mtz
from exafel.io.truth import Truth, read_truth
from exafel.parallel.comm import Communicator
from exafel.steps.base import QUIET, Hooks, StepRequest, require_paths
from exafel.steps.evaluate_figures import Figures, figures_of, true_table
from exafel.steps.evaluation import EvaluationSummary, run_evaluation
from exafel.stills.accuracy import LatticeErrors, lattice_errors

STEP = "evaluate"


class Spread(Model):
    """Median and largest of many values."""

    median: float
    max: float


class Shell(Model):
    """Merged intensities against true squared structure factors; `cc` is None where it is not defined."""

    d_max: float
    d_min: float
    n: int
    cc: float | None


class Summary(EvaluationSummary):
    """Figures of merit.

    `n` lattices belong to shots that truly hit a crystal; `n_wrong` of them lie more than the configured angle off.
    `cell_rms_angstrom` (a, b, c) is over the others. `n_false` lattices are on shots without a crystal.
    """

    n_true: int
    n_wrong: int
    n_false: int
    misorientation_deg: Spread
    cell_rms_angstrom: tuple[float, float, float] | None
    cc_true: float | None = None
    shells: tuple[Shell, ...] = ()
    figures: Figures | None = None


def request(
    config: EvaluateSfxConfig,
    stills: tuple[Path, ...],
    truth: Path,
    out: Path,
    *,
    merge: Path | None = None,
    mtz: Path | None = None,
    stage1: Path | None = None,
    stage2: Path | None = None,
) -> StepRequest:
    """Say what is to be compared with what.

    Parameters
    ----------
    config
        Parameters.
    stills
        Folders of stills steps, or ``.expt`` files.
    truth
        Folder of a simulate step, a file of JSON lines, or nanoBragg's ``truth.json``.
    out
        Folder for the result.
    merge, mtz
        Folder of a merge step (or its MTZ) and true structure factors; without `mtz`, those of the truth's folder.
    stage1, stage2
        Folders of these steps, for the figures of merit A to E.

    Raises
    ------
    ConfigError
        Merged data are given without true structure factors.
    """
    inputs = {"stills": stills, "truth": (truth,)}
    inputs |= {name: (path,) for name, path in (("stage1", stage1), ("stage2", stage2)) if path is not None}
    if merge is not None:
        inputs["merge"] = (merge,)
    if merge is not None or stage2 is not None:
        inputs["mtz"] = (mtz or _true_mtz(truth),)
    if config.anomalous_model is not None:
        inputs["model"] = require_paths((Path(config.anomalous_model),), "models")
    return StepRequest(STEP, config, inputs, out)


def _true_mtz(truth: Path) -> Path:
    found = read_manifest(truth).files(truth, "mtz") if (truth / MANIFEST_NAME).is_file() else []
    if not found:
        raise ConfigError("merged data need true structure factors", hint="give them with --mtz")
    return found[0]


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:  # noqa: ARG001 - every step's signature
    """Compare, on rank 0; the figures go to ``evaluation.json`` and into the summary.

    Raises
    ------
    InputError
        An input cannot be read.
    NothingUsableError
        No lattice belongs to a shot that hit.
    """
    config = request.config
    assert isinstance(config, EvaluateSfxConfig)
    return run_evaluation(request, comm, Summary, lambda: _evaluate(request, config))


def _evaluate(request: StepRequest, config: EvaluateSfxConfig) -> Summary:
    truth = read_truth(request.inputs["truth"][0])
    pairs, n_false = _pairs(request.inputs["stills"], truth)
    if not pairs:
        raise NothingUsableError(
            "no lattice belongs to an image of the truth that has one",
            hint="is this the truth of these images? they are matched by file name and image number",
        )
    errors = lattice_errors(pairs, equivalence=config.equivalence)
    good = errors.better_than(config.wrong_deg)
    shells = _shells(request, config)
    return Summary(
        n=len(errors),
        n_true=sum(shot.crystal is not None for shot in truth.shots),
        n_wrong=len(errors) - len(good),
        n_false=n_false,
        misorientation_deg=_spread(errors),
        cell_rms_angstrom=good.cell_rms_angstrom if len(good) else None,
        cc_true=shells[0].cc if shells else None,
        shells=shells[1:],
        figures=_figures(request, config),
    )


def _figures(request: StepRequest, config: EvaluateSfxConfig) -> Figures | None:
    """Figures A to E; None without stages 1 and 2."""
    inputs = request.inputs
    if not {"stage1", "stage2"} & set(inputs):
        return None
    named = {name: inputs[name][0] for name in ("stills", "merge", "stage1", "stage2") if name in inputs}
    folders = {name: path for name, path in named.items() if path.is_dir()}
    truth = true_table(inputs["mtz"][0]) if "mtz" in inputs else None
    return figures_of(folders, truth, config, inputs["model"][0] if "model" in inputs else None)


def _spread(errors: LatticeErrors) -> Spread:
    angles = errors.misorientation_deg
    return Spread(median=round(float(np.median(angles)), 6), max=round(float(angles.max()), 6))


def _pairs(stills: tuple[Path, ...], truth: Truth) -> tuple[list[tuple[Crystal, Crystal]], int]:
    """(found, true) lattices, and the number of lattices on shots that have none."""
    pairs, n_false = [], 0
    for path in _expt_files(stills):
        for experiment in read_expt(path):
            if experiment.crystal is None:
                continue
            shot = truth.find(experiment.image)
            if shot is None or shot.crystal is None:
                n_false += 1
            else:
                pairs.append((experiment.crystal, shot.crystal))
    return pairs, n_false


def _expt_files(stills: tuple[Path, ...]) -> list[Path]:
    files = []
    for path in require_paths(stills, "stills"):
        found = read_manifest(path).files(path, "expt") if path.is_dir() else [path]
        if not found:
            raise InputError("no experiments in this folder", where=path, hint="give the folder of a stills step")
        files += found
    return files


def _shells(request: StepRequest, config: EvaluateSfxConfig) -> tuple[Shell, ...]:
    """Agreement over all merged reflections, then by shell; empty without merged data."""
    if "merge" not in request.inputs:
        return ()
    merge = request.inputs["merge"][0]
    path = merge
    if merge.is_dir():
        files = read_manifest(merge).files(merge, "mtz")
        if not files:
            raise InputError("no MTZ in this folder", where=merge, hint="give the folder of a merge step")
        path = files[0]
    merged, reference = read_mtz(path), read_mtz(request.inputs["mtz"][0])
    group = space_group_of_hall(reference.space_group)
    apart = len(np.unique(np.concatenate([reference.hkl, -reference.hkl]), axis=0)) < 2 * len(reference.hkl)
    truth = structure_factor_table(reference.hkl, np.sqrt(reference.intensities()[0]), group, anomalous=apart)
    d = gemmi.UnitCell(*merged.cell).calculate_d_array(merged.hkl)
    rows = intensity_agreement(merged.hkl, merged.intensities()[0], d, truth, config.shells)
    return tuple(
        Shell(d_max=row.d_max, d_min=row.d_min, n=row.n, cc=None if np.isnan(row.cc) else round(row.cc, 6))
        for row in rows
    )
