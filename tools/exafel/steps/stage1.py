"""Stage 1: refine the orientation, cell, block size and scale of every lattice against the pixels of its spots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import Field

from exafel.arrays import FloatArray
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.shoeboxes import cut_shoeboxes
from exafel.bragg.shot_model import shifted
from exafel.bragg.stage1 import refine_sampled
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.stage1 import Stage1Config
from exafel.errors import ExafelError, NothingUsableError
from exafel.io.crystal import Crystal
from exafel.io.events import Stage
from exafel.io.mtz import ReferenceData, read_mtz
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.steps.chunks import process_chunks, stored
from exafel.steps.lattices import ImageReader, LatticeRecord, LatticeSource, list_containers
from exafel.steps.shot_setup import known_reflections, mtz_file, shot_scene
from exafel.steps.stage1_files import RefinedShot, Tally, row_of, write_results


class Stage1Summary(StepSummary):
    """How well the pixels are modelled before and after."""

    n_shots: int = Field(description="Lattices of the input.")
    n_refined: int
    n_flagged: int = Field(description="Refined, but doubtful: see the column flags.")
    reasons: dict[str, int] = Field(description="Why lattices were not refined.")
    sigz_before: float | None = Field(description="Median of sigma(Z) over shots, before.")
    sigz_after: float | None = Field(description="And after.")
    n_cells_median: tuple[float, float, float] | None
    spot_fwhm_px: float | None = Field(None, description="Median over shots of how narrow the modelled spots are.")
    n_undersampled: int = Field(0, description="Shots whose modelled spots are narrower than a (sub)pixel.")
    n_evaluations_median: float | None
    cpu_s_per_shot: float


def request(config: Stage1Config, stills: Sequence[Path], mtz: Path, out: Path) -> StepRequest:
    """Describe the refinement of the lattices of some stills.

    Parameters
    ----------
    config
        The parameters.
    stills
        Folders of the stills step.
    mtz
        Merged intensities or amplitudes: an MTZ file, or the folder of a merge step.
    out
        Folder for the containers and the manifest.

    Raises
    ------
    InputError
        An input does not exist.
    """
    inputs = {"stills": require_paths(tuple(stills), "stills folders"), "mtz": require_paths((mtz,), "MTZ files")}
    return StepRequest("stage1", config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Stage1Summary:
    """Refine all lattices on all ranks.

    Raises
    ------
    InputError
        An input cannot be read at all.
    NothingUsableError
        No lattice was refined; the message says why.
    """
    config = request.config
    assert isinstance(config, Stage1Config)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Stage1Summary)
        with step.phase("open"):
            containers = from_root(comm, lambda: list_containers(request.inputs["stills"], "indexed"))
            amplitudes = from_root(comm, lambda: read_mtz(mtz_file(request.inputs["mtz"][0]), config.mtz_column))
            refiner = _Refiner(LatticeSource(containers), amplitudes, config, step)
        with step.phase("shots"):
            spools = process_chunks(step, comm, hooks, len(refiner.lattices), config.chunk_size, refiner.refine)
        with step.phase("write"):
            tally = write_results(cast("Iterable[RefinedShot]", stored(spools)), config, step)
        tallies = comm.gather(tally)
        summary = from_root(comm, lambda: _summarize(tallies or [], request.out))
        if comm.rank == 0:
            hooks.note(
                f"sigma(Z) {summary.sigz_before} before, {summary.sigz_after} after; "
                f"{summary.n_refined} of {summary.n_shots} lattices refined, {summary.n_flagged} flagged"
            )
            if summary.n_undersampled:
                hooks.note(
                    f"{summary.n_undersampled} lattices have spots narrower than what samples them (full width "
                    f"{summary.spot_fwhm_px} px in the median): give stage1.oversample: auto"
                )
        return step.finish(summary)


class _Refiner:
    """Refines lattices by number; one whose data went bad is a result too."""

    def __init__(self, lattices: LatticeSource, reference: ReferenceData, config: Stage1Config, step: StepRun) -> None:
        self.lattices = lattices
        self._reference = reference
        self._config = config
        self._step = step
        self._images = ImageReader(config.photons)
        self._known: dict[str, tuple[ReflectionSet, StructureFactorTable]] = {}

    def refine(self, number: int) -> RefinedShot:
        """Refine lattice `number`."""
        start = time.process_time()
        record = self.lattices[number]
        self._step.emit(Stage.START, number)
        try:
            shot = self._refined(number, record)
            self._step.emit(Stage.REFINE, number, len(shot.spots))
            self._step.emit(Stage.DONE, number, 1)
        except (ExafelError, np.linalg.LinAlgError) as error:
            reason = error.what if isinstance(error, ExafelError) else str(error)
            shot = RefinedShot(number, record.experiment, reason)
            self._step.emit(Stage.FAIL, number, len(record.reflections), "stage1_failed")
        return replace(shot, cpu_s=time.process_time() - start)

    def _refined(self, number: int, record: LatticeRecord) -> RefinedShot:
        experiment, config = record.experiment, self._config
        pixels = self._images.read(experiment.image, record.corrections)
        reflections, table = self._structure_factors(experiment.crystal)
        # what is finer than the structure factors would be modelled as nothing
        spots = record.reflections.select(reflections.lookup(record.reflections["miller_index"]) >= 0)
        scene = shot_scene(record, pixels, table, config, mosaic=config.eta_deg > 0, box_px=config.shoebox_px)
        position: FloatArray = spots["xyzobs.px.value"][:, :2]
        boxes = cut_shoeboxes(
            pixels.frames,
            pixels.masks,
            experiment.detector,
            spots["panel"],
            position,
            config.shoebox_px,
            gain=config.gain,
        )
        fit, scene = refine_sampled(scene, boxes, config)
        detector = shifted(experiment.detector, experiment.beam, fit.parameters.detector_z_mm)
        refined = replace(experiment, crystal=scene.refined_crystal(fit.parameters), detector=detector)
        used = spots.select(boxes.rows[fit.boxes])
        used["xyzcal.px"] = np.column_stack([fit.centroids_px, np.full(len(used), 0.5)])
        used["id"] = np.zeros(len(used), dtype=np.int32)
        used.identifiers = {0: experiment.identifier}
        return RefinedShot(number, refined, row=row_of(experiment, scene, fit, record.corrections, config), spots=used)

    def _structure_factors(self, crystal: Crystal | None) -> tuple[ReflectionSet, StructureFactorTable]:
        assert crystal is not None
        if crystal.space_group_hall not in self._known:
            reflections, amplitude, _ = known_reflections(self._reference, crystal.space_group, self._config.d_min)
            self._known[crystal.space_group_hall] = reflections, reflections.table(amplitude)
        return self._known[crystal.space_group_hall]


def _summarize(tallies: Sequence[Tally], out: Path) -> Stage1Summary:
    rows = [row for tally in tallies for row in tally.rows]
    reasons = Counter(reason for tally in tallies for reason in tally.reasons)
    n_shots = sum(tally.n for tally in tallies)
    if not rows:
        listed = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
        raise NothingUsableError(f"no lattice was refined: {listed}", where=out)

    def median(name: str) -> float:
        return round(float(np.median([row[name] for row in rows])), 4)

    a, b, c = np.median([row["ncells"] for row in rows], axis=0).round(3).tolist()
    return Stage1Summary(
        n_shots=n_shots,
        n_refined=len(rows),
        n_flagged=sum(bool(row["flags"]) for row in rows),
        reasons=dict(reasons.most_common()),
        sigz_before=median("sigz_init"),
        sigz_after=median("sigz"),
        n_cells_median=(a, b, c),
        spot_fwhm_px=median("spot_fwhm_px"),
        n_undersampled=sum(row["spot_fwhm_px"] * row["oversample"] < 1 for row in rows),
        n_evaluations_median=median("niter"),
        cpu_s_per_shot=round(sum(tally.cpu_s for tally in tallies) / n_shots, 4),
    )
