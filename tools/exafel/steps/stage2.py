"""Stage 2: refine the structure factors, Bijvoet mates apart, against the pixels of all shots."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from exafel.arrays import FloatArray
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.shoeboxes import cut_shoeboxes
from exafel.bragg.stage2 import Stage2Shots
from exafel.bragg.stage2_array import array_evaluator
from exafel.bragg.stage2_shots import CompactShot, compact_shot, share_by_size
from exafel.config.stage2 import Stage2Config
from exafel.errors import ExafelError, InputError, NothingUsableError
from exafel.io.events import Stage
from exafel.io.mtz import read_mtz
from exafel.io.refl import read_refl
from exafel.parallel.comm import Communicator, from_root
from exafel.parallel.mpi import launched_rank
from exafel.steps.base import QUIET, WORK_NAME, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.steps.lattices import Container, ImageReader, LatticeRecord, LatticeSource, list_containers
from exafel.steps.shot_setup import known_reflections, mtz_file, pixel_model_of, refined_scene
from exafel.steps.stage2_files import refined_data, write_refined, write_rows, write_snapshots
from exafel.steps.stage2_refine import CHECKPOINT_NAME, Refinement

_GIB = 2**30


class Stage2Summary(StepSummary):
    """How well all pixels are modelled with the starting and with the refined structure factors."""

    n_shots: int = Field(description="Shots of the predict step.")
    n_used: int
    reasons: dict[str, int] = Field(description="Why shots were not used.")
    n_reflections: int = Field(description="Refined reflections, Bijvoet mates apart, that shots have.")
    n_pixels: int
    n_hot_pixels: int = Field(0, description="Left out: more photons than the reflection's other pixels allow.")
    n_terms: int = Field(description="Pairs of pixel and reflection in the model.")
    n_recomputed: int = Field(description="Shots past memory_gb, whose coefficients are computed in every iteration.")
    memory_gb: float = Field(description="Of packed and compact shots, the largest of the ranks.")
    iterations: int
    evaluations: int
    ended_by: str = Field(description="gradient, held-out pixels, iterations, or no lower point.")
    best_iteration: int = Field(description="Where the held-out pixels were most likely: what is written.")
    sigz_start: float
    sigz_end: float
    held_out_start: float = Field(description="Objective for a held-out pixel, each Z^2 at most 100.")
    held_out_end: float
    seconds: float = Field(description="Of the iterations.")


def request(config: Stage2Config, predict: Path, mtz: Path, out: Path) -> StepRequest:
    """Describe the refinement of structure factors.

    Parameters
    ----------
    config
        The parameters.
    predict
        Folder of a predict step.
    mtz
        Amplitudes or intensities to start from: an MTZ file, or the folder of a merge step.
    out
        Folder for the results.

    Raises
    ------
    InputError
        An input does not exist.
    """
    inputs = {"predict": require_paths((predict,), "predict folders"), "mtz": require_paths((mtz,), "MTZ files")}
    return StepRequest("stage2", config, inputs, out)


def forget(request: StepRequest) -> None:
    """Remove the checkpoint of an interrupted run, so that the next starts anew."""
    if launched_rank() == 0:
        (request.out / WORK_NAME / CHECKPOINT_NAME).unlink(missing_ok=True)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Stage2Summary:
    """Refine on all ranks; a run that was killed goes on from its last checkpoint.

    Raises
    ------
    InputError
        An input cannot be read at all.
    NothingUsableError
        No shot can be used.
    """
    config = request.config
    assert isinstance(config, Stage2Config)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Stage2Summary)
        with step.phase("setup"):
            loaded = _load(request, config, step, comm)
        total = comm.allgather((loaded.shots.packed_bytes + loaded.shots.compact_bytes, loaded.shots.n_recomputed))
        memory = max(size for size, _ in total) / _GIB
        hooks.note(
            f"memory: {memory:.3f} GiB of shots on the largest rank, {config.memory_gb} allowed; "
            f"{sum(n for _, n in total)} shots are recomputed in every iteration"
        )
        with step.phase("refine"):
            mark = request.fingerprint(request.input_records())
            refinement = Refinement(loaded.shots, loaded.start, loaded.n_lattices, config, comm, step.work, mark)
            refinement.run(hooks.note)
        with step.phase("write"):
            summary = _conclude(loaded, refinement, step, comm, memory)
        return step.finish(summary)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What this rank refines with."""

    shots: Stage2Shots
    start: FloatArray
    n_lattices: int
    reasons: Counter[str]
    wavelength: float
    scale: dict[int, float]
    n_hot: int


def _load(request: StepRequest, config: Stage2Config, step: StepRun, comm: Communicator) -> _Loaded:
    containers = from_root(comm, lambda: list_containers(request.inputs["predict"], "refl"))
    lattices = LatticeSource(containers)
    first = lattices[0]
    model = pixel_model_of(first.row, request.inputs["predict"][0])
    reference = from_root(comm, lambda: read_mtz(mtz_file(request.inputs["mtz"][0]), model.mtz_column))
    assert first.experiment.crystal is not None
    reflections, start, _ = known_reflections(reference, first.experiment.crystal.space_group, model.d_min)
    shares = from_root(comm, lambda: share_by_size(_sizes(containers), comm.size))
    vectors = 8.0 * len(start) * (2 * config.lbfgs_memory + 8)
    budget = config.memory_gb * _GIB - vectors
    if budget <= 0:
        raise InputError(
            f"{len(start)} reflections alone need more than {config.memory_gb} GiB", hint="raise stage2.memory_gb"
        )
    shots = Stage2Shots(
        reflections,
        model.read_noise_photons**2,
        config.held_out,
        config.seed,
        budget,
        array_evaluator(config.device),
        config.threads,
    )
    loader = _Loader(lattices, ImageReader(model.photons), reflections, start, config, step)
    batch: list[CompactShot] = []
    for number in shares[comm.rank]:
        shot = loader.load(number)
        if shot is not None:
            batch.append(shot)
        if len(batch) == 256:
            shots.add(batch)
            batch = []
    shots.add(batch)
    need = max(comm.allgather(shots.packed_bytes + shots.compact_bytes))
    if need > budget:
        raise InputError(
            f"a rank's shots and {len(start)} reflections take {(need + vectors) / _GIB:.3g} GiB, coefficients not "
            f"counted, and {config.memory_gb} are allowed",
            hint="raise stage2.memory_gb (--memory-gb), or use more ranks",
        )
    used = sum(comm.allgather(len(shots.numbers)))
    reasons = sum(comm.allgather(loader.reasons), Counter[str]())
    if not used:
        listed = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(5))
        raise NothingUsableError(f"no shot can be used: {listed}", where=request.out)
    return _Loaded(
        shots, start, len(lattices), reasons, first.experiment.beam.wavelength_angstrom, loader.scale, loader.n_hot
    )


def _sizes(containers: list[Container]) -> list[int]:
    """Predicted pixels of every lattice."""
    sizes: list[int] = []
    for item in containers:
        table = read_refl(item.reflections)
        sizes += np.bincount(table["id"], weights=table["num_pixels"], minlength=item.rows).astype(int).tolist()
    return sizes


class _Loader:
    """Makes compact shots by number; one whose data went bad is told and left out."""

    def __init__(
        self,
        lattices: LatticeSource,
        images: ImageReader,
        reflections: ReflectionSet,
        start: FloatArray,
        config: Stage2Config,
        step: StepRun,
    ) -> None:
        self._lattices = lattices
        self._images = images
        self._reflections = reflections
        self._start = start
        self._table = reflections.table(start)
        self._config = config
        self._step = step
        self.reasons: Counter[str] = Counter()
        self.scale: dict[int, float] = {}
        self.n_hot = 0

    def load(self, number: int) -> CompactShot | None:
        """Load shot `number`."""
        record = self._lattices[number]
        try:
            if not record.row["sigz"] <= self._config.max_sigma_z:
                raise InputError(f"sigma(Z) of stage 1 above {self._config.max_sigma_z}")
            shot = self._compact(number, record)
        except (ExafelError, np.linalg.LinAlgError) as error:
            self.reasons[error.what if isinstance(error, ExafelError) else str(error)] += 1
            self._step.emit(Stage.FAIL, number, 0, "stage2_left_out")
            return None
        self.scale[number] = shot.parameters.scale
        self.n_hot += shot.n_hot
        self._step.emit(Stage.DONE, number, len(shot.corners))
        return shot

    def _compact(self, number: int, record: LatticeRecord) -> CompactShot:
        experiment, table, size = record.experiment, record.reflections, self._config.shoebox_px
        pixels = self._images.read(experiment.image, record.corrections)
        scene, parameters, model = refined_scene(record, pixels, self._table, size)
        boxes = cut_shoeboxes(
            pixels.frames,
            pixels.masks,
            experiment.detector,
            table["panel"],
            table["xyzcal.px"][:, :2],
            size,
            gain=model.gain,
        )
        # Stage 1 hands shots out as ranks get free, so that a shot's number differs from run to run.
        identity = int.from_bytes(hashlib.sha256(experiment.identifier.encode()).digest()[:8])
        return compact_shot(number, scene, parameters, self._reflections, self._start, boxes, identity)


def _conclude(
    loaded: _Loaded, refinement: Refinement, step: StepRun, comm: Communicator, memory_gb: float
) -> Stage2Summary:
    """Write the results on rank 0, of the point where the held-out pixels were most likely."""
    progress, state, shots = refinement.progress, refinement.state, loaded.shots
    assert state is not None
    curvature, counts = refinement.curvature(progress.best_x), refinement.counts()
    scales = refinement.all_scales()
    n_used = sum(comm.allgather(len(shots.numbers)))
    terms, recomputed, hot = np.sum(comm.allgather((shots.n_terms, shots.n_recomputed, loaded.n_hot)), axis=0)
    starts = {number: scale for part in comm.allgather(loaded.scale) for number, scale in part.items()}
    first, last = progress.history[0], progress.history[progress.best_iteration]
    if comm.rank == 0:
        amplitude = np.exp(refinement.ln_f(progress.best_x))
        data = refined_data(shots.reflections, amplitude, curvature, counts, loaded.wavelength)
        rows = write_refined(step.out / "refined.mtz", data, f"stage 2, {n_used} shots")
        step.add_container(step.out / "refined.mtz", "mtz", rows=rows)
        write_rows(step.out / "convergence.csv", progress.history)
        step.add_container(step.out / "convergence.csv", "convergence", rows=len(progress.history))
        write_rows(
            step.out / "scales.csv",
            [{"lattice": number, "scale": starts[number] * float(np.exp(scales[number]))} for number in sorted(starts)],
        )
        step.add_container(step.out / "scales.csv", "scales", rows=len(starts))
        if progress.snapshots:
            write_snapshots(step.out / "iterations.npz", shots.reflections, progress.snapshots, counts)
            step.add_container(step.out / "iterations.npz", "iterations", rows=len(progress.snapshots))
    return Stage2Summary(
        n_shots=loaded.n_lattices,
        n_used=n_used,
        reasons=dict(loaded.reasons.most_common()),
        n_reflections=int(np.sum(counts > 0)),
        n_pixels=refinement.n_pixels,
        n_hot_pixels=int(hot),
        n_terms=int(terms),
        n_recomputed=int(recomputed),
        memory_gb=round(memory_gb, 4),
        iterations=state.iteration,
        evaluations=state.evaluations,
        ended_by=progress.reason,
        best_iteration=progress.best_iteration,
        sigz_start=first["sigma_z"],
        sigz_end=last["sigma_z"],
        held_out_start=first["held_out_per_pixel"],
        held_out_end=last["held_out_per_pixel"],
        seconds=float(progress.history[-1]["seconds"]),
    )
