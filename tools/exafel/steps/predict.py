"""Predict all reflections of every refined shot, choose those to refine against, and integrate them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import Field

from exafel.bragg.predict import PixelSource, predict_shot
from exafel.bragg.shot_table import SUFFIXES, Row, write_table
from exafel.config.predict import PredictConfig
from exafel.errors import ExafelError, NothingUsableError
from exafel.io.events import Stage
from exafel.io.experiment import Experiment, ExperimentList
from exafel.io.expt import write_expt
from exafel.io.files import atomic_write
from exafel.io.manifest import read_manifest
from exafel.io.mtz import ReferenceData, read_mtz
from exafel.io.refl import write_refl
from exafel.io.reflections import ReflectionTable
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.steps.chunks import process_chunks, stored
from exafel.steps.lattices import ImageReader, LatticeRecord, LatticeSource, list_containers
from exafel.steps.shot_setup import known_reflections, mtz_file, pixel_model_of, refined_scene, shell_mean_square


class PredictSummary(StepSummary):
    """How many reflections are predicted and kept."""

    n_shots: int = Field(description="Shots of stage 1.")
    n_predicted_shots: int
    n_reflections: int
    n_strong: int
    n_weak: int
    reasons: dict[str, int] = Field(description="Why shots were left out.")
    cpu_s_per_shot: float


@dataclass(frozen=True, eq=False)
class PredictedShot:
    """One shot's predictions, or why there are none."""

    number: int
    experiment: Experiment
    row: Row = field(default_factory=dict)
    reflections: ReflectionTable = field(default_factory=ReflectionTable)
    reason: str = ""
    cpu_s: float = 0.0


def request(config: PredictConfig, stage1: Path, out: Path, mtz: Path | None = None) -> StepRequest:
    """Describe the prediction of refined shots.

    Parameters
    ----------
    config
        The parameters.
    stage1
        Folder of a stage1 step.
    out
        Folder for the containers and the manifest.
    mtz
        Amplitudes, of which shells' means are used; None: those of stage 1.

    Raises
    ------
    InputError
        An input does not exist, or stage 1 has not finished.
    """
    chosen = mtz if mtz is not None else Path(read_manifest(stage1).inputs[-1].path)
    inputs = {"stage1": require_paths((stage1,), "stage1 folders"), "mtz": require_paths((chosen,), "MTZ files")}
    return StepRequest("predict", config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> PredictSummary:
    """Predict all shots on all ranks.

    Raises
    ------
    InputError
        An input cannot be read at all.
    NothingUsableError
        No shot predicts anything.
    """
    config = request.config
    assert isinstance(config, PredictConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(PredictSummary)
        with step.phase("open"):
            containers = from_root(comm, lambda: list_containers(request.inputs["stage1"], "refl"))
            lattices = LatticeSource(containers)
            model = pixel_model_of(lattices[0].row, request.inputs["stage1"][0])
            reference = from_root(comm, lambda: read_mtz(mtz_file(request.inputs["mtz"][0]), model.mtz_column))
            predictor = _Predictor(lattices, reference, model.d_min, model.photons, config, step)
        with step.phase("shots"):
            spools = process_chunks(step, comm, hooks, len(lattices), config.chunk_size, predictor.predict)
        with step.phase("write"):
            tally = _write(cast("Iterable[PredictedShot]", stored(spools)), config, step)
        tallies = comm.gather(tally)
        summary = from_root(comm, lambda: _summarize(tallies or [], request.out))
        return step.finish(summary)


class _Predictor:
    """Predicts shots by number; one whose data went bad is a result too."""

    def __init__(
        self,
        lattices: LatticeSource,
        reference: ReferenceData,
        d_min: float | None,
        photons: float,
        config: PredictConfig,
        step: StepRun,
    ) -> None:
        self._lattices = lattices
        self._config = config
        self._step = step
        self._images = ImageReader(photons)
        crystal = lattices[0].experiment.crystal
        assert crystal is not None
        self._reflections, amplitude, _ = known_reflections(reference, crystal.space_group, d_min)
        self._mean_square = shell_mean_square(self._reflections, amplitude)
        self._table = self._reflections.table(np.sqrt(self._mean_square))

    def predict(self, number: int) -> PredictedShot:
        """Predict shot `number`."""
        start = time.process_time()
        record = self._lattices[number]
        self._step.emit(Stage.START, number)
        try:
            shot = self._predicted(number, record)
            self._step.emit(Stage.INTEGRATE, number, len(shot.reflections))
            self._step.emit(Stage.DONE, number, 1)
        except (ExafelError, np.linalg.LinAlgError) as error:
            reason = error.what if isinstance(error, ExafelError) else str(error)
            shot = PredictedShot(number, record.experiment, reason=reason)
            self._step.emit(Stage.FAIL, number, 0, "predict_failed")
        return replace(shot, cpu_s=time.process_time() - start)

    def _predicted(self, number: int, record: LatticeRecord) -> PredictedShot:
        experiment = record.experiment
        pixels = self._images.read(experiment.image, record.corrections)
        scene, parameters, model = refined_scene(record, pixels, self._table, self._config.shoebox_px)
        table = predict_shot(
            scene,
            parameters,
            self._reflections,
            self._mean_square,
            PixelSource(pixels.frames, pixels.masks, model.gain),
            record.reflections,
            self._config,
            model.read_noise_photons,
        )
        table.identifiers = {0: experiment.identifier}
        strong = int(table["is_strong"].sum())
        row = {
            **record.row,
            "num_mosaicity_samples": scene.mosaic_blocks,
            "n_predicted": len(table),
            "n_strong": strong,
            "n_weak": len(table) - strong,
            "n_model_pixels": int(table["num_pixels"].sum()),
        }
        return PredictedShot(number, experiment, row, table)


def _write(shots: Iterable[PredictedShot], config: PredictConfig, step: StepRun) -> tuple[Counter[str], Counter[str]]:
    """Write this rank's containers; return its counts, and its reasons of failure."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    experiments = ExperimentList()
    tables: list[ReflectionTable] = []
    rows: list[Row] = []
    stem = step.out / f"rank-{step.comm.rank:05d}"
    listing = stem.with_name(f"{stem.name}_shots.jsonl")
    with atomic_write(listing) as stream:
        for shot in sorted(shots, key=lambda item: item.number):
            told = {"lattice": shot.number, "identifier": shot.experiment.identifier, "reason": shot.reason}
            stream.write(
                json.dumps({**told, "n": len(shot.reflections), "cpu_s": round(shot.cpu_s, 4)}).encode() + b"\n"
            )
            counts.update(shots=1, cpu_us=round(shot.cpu_s * 1e6))
            if shot.reason:
                reasons[shot.reason] += 1
                continue
            files = {"predicted_refls": f"{stem}.refl", "predictions": f"{stem}.refl", "opt_exp_name": f"{stem}.expt"}
            rows.append({**shot.row, **files, "exp_name": f"{stem}.expt", "exp_idx": len(rows)})
            counts.update(predicted=1, strong=shot.row["n_strong"], weak=shot.row["n_weak"])
            experiments.append(shot.experiment)
            tables.append(shot.reflections)
    step.add_container(listing, "shots", rows=counts["shots"])
    if rows:
        write_expt(stem.with_suffix(".expt"), experiments)
        step.add_container(stem.with_suffix(".expt"), "expt", rows=len(rows))
        table = ReflectionTable.concatenate(tables)
        write_refl(stem.with_suffix(".refl"), table)
        step.add_container(stem.with_suffix(".refl"), "refl", rows=len(table))
        path = stem.with_suffix(SUFFIXES[config.table_format])
        write_table(path, rows)
        step.add_container(path, "table", rows=len(rows))
    return counts, reasons


def _summarize(tallies: Sequence[tuple[Counter[str], Counter[str]]], out: Path) -> PredictSummary:
    counts = sum((item[0] for item in tallies), Counter[str]())
    reasons = sum((item[1] for item in tallies), Counter[str]())
    if not counts["predicted"]:
        listed = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
        raise NothingUsableError(f"no shot predicts anything: {listed}", where=out)
    return PredictSummary(
        n_shots=counts["shots"],
        n_predicted_shots=counts["predicted"],
        n_reflections=counts["strong"] + counts["weak"],
        n_strong=counts["strong"],
        n_weak=counts["weak"],
        reasons=dict(reasons.most_common()),
        cpu_s_per_shot=round(counts["cpu_us"] * 1e-6 / max(counts["shots"], 1), 4),
    )
