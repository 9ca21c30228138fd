"""Orientations, conformations and densities from shots of single particles, generation after generation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from exafel.arrays import IntArray
from exafel.config.base import Model
from exafel.config.spi import SpiReconstructConfig
from exafel.errors import ConfigError
from exafel.io.files import write_json
from exafel.io.manifest import MANIFEST_NAME, read_manifest
from exafel.io.mrc import write_mrc
from exafel.io.spi_file import SpiShots
from exafel.io.spi_hits import read_single_hits
from exafel.parallel.comm import Communicator, from_root
from exafel.spi.blocks import Images, require_enough, share_out
from exafel.spi.finishing import FinalMap, Finished, finish
from exafel.spi.fsc import Curve
from exafel.spi.loading import read_pixels, survey, usable_pixels
from exafel.spi.marching import March
from exafel.spi.state import Assignments, State, load_state, save_state
from exafel.spi.workers import RankWorkers, TaskWorkers, Workers
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths

STEP = "spi_reconstruct"
CHECKPOINT = "checkpoint.npz"
_ALIKE = 0.95


class ClassSummary(Model):
    """One conformation."""

    number: int
    fraction: float
    r_factor: float = Field(description="Σ|A - |F|| / ΣA of the best of all starts.")
    fsc_half_angstrom: float | None = Field(description="Resolution at which the halves' correlation is 0.5.")
    fsc_half_0143_angstrom: float | None = Field(description="At which it is 0.143.")
    likeness: float | None = Field(
        None, description="Largest correlation of its intensities with another class's. Near 1: not two conformations."
    )
    prtf_angstrom: float | None = Field(description="At which the phase transfer between starts is 1/e.")
    starts: int = Field(
        1, description="Random starts that the map is the mean of: those with an R-factor near the best."
    )


class Generation(Model):
    """One generation."""

    generation: int
    d_angstrom: float
    median_move_deg: float
    mean_score: float
    half_d_angstrom: float | None
    class_fractions: tuple[float, ...]
    seconds: dict[str, float]


class Summary(StepSummary):
    """What came out."""

    n_shots: int
    n_images: int
    reasons: dict[str, int] = Field(description="Shots that were left out.")
    score: str
    finished: bool = Field(description="false where only some of the generations were asked for.")
    d_angstrom: float
    n_generations: int
    classes: tuple[ClassSummary, ...] = ()
    generations: tuple[Generation, ...] = ()
    allreduce_bytes_a_model: int
    cpu_s: float


@dataclass(frozen=True)
class Tasks:
    """Who runs tasks, and how many at a time.

    Parameters
    ----------
    submit
        Starts a module-level function with its arguments, which can be pickled, and returns a future.
    n
        Groups that the blocks of images are parted into.
    """

    submit: Callable[..., Future[Any]]
    n: int

    def groups(self, n_blocks: int) -> tuple[tuple[int, ...], ...]:
        """Numbers of the blocks of every task."""
        return tuple(tuple(range(first, n_blocks, self.n)) for first in range(min(self.n, n_blocks)))


def request(
    config: SpiReconstructConfig | None, images: Sequence[Path], out: Path, *, hits: Path | None = None
) -> StepRequest:
    """Say what is to be reconstructed.

    Parameters
    ----------
    config
        Parameters.
    images
        Files or folders of shots.
    out
        Folder for results.
    hits
        Folder of a spi hits step: only its single hits are used.

    Raises
    ------
    ConfigError
        There is no such section in the configuration, and so no size of the particle.
    InputError
        A path does not exist.
    """
    if config is None:
        raise ConfigError("'spi_reconstruct' is required", hint="it needs diameter_angstrom at least")
    inputs = {"images": require_paths(tuple(images), "images")}
    if hits is not None:
        inputs["hits"] = require_paths((hits,), "hits")
    return StepRequest(STEP, config, inputs, out)


def run(
    request: StepRequest,
    comm: Communicator,
    hooks: Hooks = QUIET,
    *,
    until: int | None = None,
    tasks: Tasks | None = None,
) -> Summary:
    """Reconstruct; a run that was killed goes on after its last generation, and gives the same.

    Parameters
    ----------
    until
        End after so many generations, without a manifest; the next run goes on there.
    tasks
        Who works on the images, if not the ranks: `comm` is then one process, which holds none of them.

    Raises
    ------
    InputError
        The shots cannot be read.
    NothingUsableError
        Too few of them can be used.
    """
    config = request.config
    assert isinstance(config, SpiReconstructConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Summary)
        work = _Reconstruction(step, config, comm, tasks)
        with step.phase("read"):
            march = work.prepare()
        with step.phase("generations"), hooks.progress("generations", config.max_generations) as progress:

            def after(state: State) -> None:
                last = state.history[-1]
                if comm.rank == 0:
                    save_state(step.work / CHECKPOINT, state)
                    write_json(step.out / "generations" / f"{state.generation:03d}.json", last)
                progress.update(state.generation, _note(last))
                comm.barrier()

            limit = config.max_generations if until is None else until
            state = march.run(work.start(march), limit, after)
        if not state.done:
            hooks.note(f"{state.generation} generations are done; the next run goes on there")
            return work.summary(state, None)
        with step.phase("phase"):
            final = finish(march.generations(state.stage).stage, state)
        summary = work.summary(state, final)
        alike = [item.number for item in summary.classes if item.likeness is not None and item.likeness > _ALIKE]
        if alike:
            hooks.note(
                f"classes {alike} are like another one: there may be fewer conformations, or one too rare to find"
            )
        if comm.rank == 0:
            with step.phase("output"):
                work.write(state, final)
        return step.finish(summary)


def _note(record: dict[str, Any]) -> str:
    half = record["half_d_angstrom"]
    halves = "" if half is None else f", halves agree to {half:.1f} Å"
    return f"{record['d_angstrom']:.1f} Å, moved {record['median_move_deg']:.2f}°{halves}"


class _Reconstruction:
    """What one run reads, and what it writes."""

    def __init__(self, step: StepRun, config: SpiReconstructConfig, comm: Communicator, tasks: Tasks | None) -> None:
        self._step, self._config, self._comm, self._tasks = step, config, comm, tasks
        inputs = step.request.inputs
        paths = from_root(comm, lambda: [file for path in inputs["images"] for file in shot_files(path)])
        self._shots = SpiShots(paths)
        self._wanted = np.arange(len(self._shots))
        if "hits" in inputs:
            self._wanted = from_root(comm, lambda: read_single_hits(inputs["hits"][0], len(self._shots)))

    def prepare(self) -> March:
        """Look at all images, and read those of this rank."""
        config, shots = self._config, self._shots
        pixels = usable_pixels(shots, config.d_min_angstrom)
        usable = survey(shots, self._wanted, pixels, self._comm)
        not_single = len(shots) - len(self._wanted)
        self.reasons = {**usable.reasons, **({"not single hits": not_single} if not_single else {})}
        require_enough(len(usable.shots), config.min_images, self.reasons)
        self._used = usable.shots
        self.score = config.matching.score if config.matching.score != "auto" else usable.score
        blocks = share_out(len(self._used), 2 if config.halves else 1, config.block_images, config.seed)
        read = partial(read_pixels, shots, pixels, self._used)
        if self._tasks is not None:
            groups = self._tasks.groups(len(blocks))
            key = f"{self._step.out.absolute()} {os.getpid()} {time.time()}"
            workers: Workers = TaskWorkers(self._tasks.submit, key, partial(Images, blocks, read), groups)
            return March(config, Images(blocks, read, ()), pixels, self.score, workers)
        own = range(self._comm.rank, len(blocks), self._comm.size)
        return March(config, Images(blocks, read, own), pixels, self.score, RankWorkers(self._comm))

    def start(self, march: March) -> State:
        """Return the checkpoint, where there is one, or the beginning."""
        path = self._step.work / CHECKPOINT
        if from_root(self._comm, path.is_file):
            state = self._comm.bcast(load_state(path) if self._comm.rank == 0 else None)
            assert state is not None
            return state
        given = None
        if self._config.use_orientations:
            true = self._shots.truth("orientations")
            if true is None:
                raise ConfigError("the files have no orientations", where="spi_reconstruct.use_orientations")
            random = Assignments.random(len(self._used), self._config.classes, np.random.default_rng(0))
            given = random.hardened(true[self._used].astype(np.float64))
        return march.start(given)

    def summary(self, state: State, final: Finished | None) -> Summary:
        """Put the summary together."""
        classes = []
        if final is not None:
            fractions = np.bincount(final.assignments.best_class, minlength=len(final.maps)) / len(self._used)
            classes = [_class_summary(n, item, float(fractions[n])) for n, item in enumerate(final.maps)]
        records = [{key: item[key] for key in Generation.model_fields} for item in state.history]
        cpu = float(self._comm.allreduce_sum(np.array([self._step.cpu_seconds()]))[0])
        return Summary(
            n_shots=len(self._shots),
            n_images=len(self._used),
            reasons={key: value for key, value in self.reasons.items() if value},
            score=self.score,
            finished=final is not None,
            d_angstrom=round(state.d_angstrom, 3),
            n_generations=state.generation,
            classes=tuple(classes),
            generations=tuple(Generation.model_validate(item) for item in records),
            allreduce_bytes_a_model=state.history[-1]["allreduce_bytes_a_model"] if state.history else 0,
            cpu_s=round(cpu, 2),
        )

    def write(self, state: State, final: Finished) -> None:
        """Write maps, curves and the table of images, on rank 0."""
        step, voxel = self._step, state.d_angstrom / 2
        curves = []
        for number, item in enumerate(final.maps):
            for kind, volume in (("density", item.density), ("autocorrelation", item.autocorrelation)):
                path = step.out / f"class{number}_{kind}.mrc"
                write_mrc(path, volume, voxel)
                step.add_container(path, kind)
            curves.append({"class": number, "fsc_half": _points(item.fsc_half), "prtf": _points(item.prtf)})
        write_json(step.out / "curves.json", {"classes": curves, "generations": list(state.history)})
        step.add_container(step.out / "curves.json", "curves", rows=len(state.history))
        for path in sorted((step.out / "generations").glob("*.json")):
            step.add_container(path, "generation")
        self._write_table(state, final)

    def _write_table(self, state: State, final: Finished) -> None:
        places = [self._shots.place(int(index)) for index in self._used]
        a = final.assignments
        table = pd.DataFrame(
            {
                "shot": self._used,
                "file": [place[0] for place in places],
                "index": [place[1] for place in places],
                "generation": state.generation,
                **{f"q{axis}": a.best[:, i] for i, axis in enumerate("wxyz")},
                "class": a.best_class,
                "score": a.score,
                "scale": a.scale,
                "half": halves_of(len(a.score), self._config),
            }
        )
        path = self._step.out / "images.csv"
        table.to_csv(path, index=False, float_format="%.9g")
        self._step.add_container(path, "images", rows=len(table))


def halves_of(n: int, config: SpiReconstructConfig) -> IntArray:
    """Half that every image is in, shape (n,)."""
    half = np.zeros(n, dtype=np.int64)
    for block in share_out(n, 2 if config.halves else 1, config.block_images, config.seed):
        half[block.rows] = block.half
    return half


def _class_summary(number: int, item: FinalMap, fraction: float) -> ClassSummary:
    half = item.fsc_half
    return ClassSummary(
        number=number,
        fraction=round(fraction, 5),
        r_factor=round(item.r_factor, 5),
        fsc_half_angstrom=None if half is None else half.resolution(0.5),
        fsc_half_0143_angstrom=None if half is None else half.resolution(0.143),
        likeness=None if item.likeness is None else round(item.likeness, 4),
        prtf_angstrom=None if item.prtf is None else item.prtf.resolution(float(np.exp(-1))),
        starts=item.starts,
    )


def _points(curve: Curve | None) -> dict[str, list[float | None]] | None:
    if curve is None:
        return None
    value = [round(float(v), 6) if np.isfinite(v) else None for v in curve.value]
    return {"s": [round(float(s), 7) for s in curve.s], "value": value}


def shot_files(path: Path) -> list[Path]:
    """Files of shots in a folder of a simulate spi step; any other path as it is."""
    if (path / MANIFEST_NAME).is_file():
        found = read_manifest(path).files(path, "frames")
        return found or [path]
    return [path]
