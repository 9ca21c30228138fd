"""Simulate still images of protein crystals at an X-ray free-electron laser, with the truth beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from exafel.bragg.detectors import simulated_detector
from exafel.bragg.sample import Sample, read_sample
from exafel.bragg.shots import Shot, ShotSimulator, nominal_beam
from exafel.config.simulate import ExptDetector, SimulateSfxConfig
from exafel.io.events import Stage
from exafel.io.files import write_json
from exafel.io.geometry import Detector
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.truth import TrueShot, read_truth, write_true_amplitudes, write_truth
from exafel.parallel.comm import Communicator, Counter
from exafel.steps.base import QUIET, Hooks, Progress, StepRequest, StepRun, StepSummary

STEP = "simulate"


class Summary(StepSummary):
    """What was simulated."""

    n_shots: int
    n_hits: int
    cell: tuple[float, float, float, float, float, float]
    space_group: str
    n_structure_factors: int
    cpu_s_per_image: float


def request(config: SimulateSfxConfig, out: Path) -> StepRequest:
    """Say what is to be simulated, and where it goes."""
    inputs = {"structure": (Path(config.structure),)}
    if isinstance(config.detector, ExptDetector):
        inputs["detector"] = (Path(config.detector.path),)
    if config.background_profile is not None:
        inputs["background_profile"] = (Path(config.background_profile),)
    return StepRequest(STEP, config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:
    """Simulate all shots: rank r writes its share of them to ``rank-0000r.h5`` and their truth beside it.

    Shot i is the same whatever the number of ranks. Parts that were complete when a run was killed are not simulated
    again. Rank 0 writes the true structure factors to ``truth.mtz``.

    Raises
    ------
    InputError
        The structure or the detector cannot be read.
    ExafelError
        A result cannot be written.
    """
    config = request.config
    assert isinstance(config, SimulateSfxConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Summary)
        with step.phase("structure_factors"):
            sample = read_sample(config)
            simulator = ShotSimulator(config, simulated_detector(config), sample)
        if comm.rank == 0:
            _write_amplitudes(step, sample)
            _remove_strays(step.out, comm.size)
        comm.barrier()
        with (
            step.phase("simulate"),
            comm.counter() as counter,
            hooks.progress("simulate", config.n_shots) as progress,
        ):
            n_hits = _Share(step, config, counter, progress).make(simulator)
        totals = comm.allreduce_sum(np.array([n_hits, step.cpu_seconds()]))
        return step.finish(
            Summary(
                n_shots=config.n_shots,
                n_hits=int(totals[0]),
                cell=sample.cell,
                space_group=sample.space_group.hm,
                n_structure_factors=len(sample.hkl),
                cpu_s_per_image=round(float(totals[1]) / config.n_shots, 4),
            )
        )


def _write_amplitudes(step: StepRun, sample: Sample) -> None:
    path = step.out / "truth.mtz"
    write_true_amplitudes(
        path, sample.hkl, sample.amplitude, sample.cell, sample.space_group, anomalous=sample.anomalous
    )
    step.add_container(path, "mtz", rows=len(sample.hkl))


def _part_size(n_shots: int) -> int:
    """Shots that a kill can cost: more of a long run, so that its parts stay few."""
    return min(max(n_shots // 64, 1), 32)


def _remove_strays(folder: Path, n_ranks: int) -> None:
    """Remove what ranks left that a killed run had and this one has not."""
    for path in [*folder.glob("rank-*.h5"), *folder.glob("truth-*.jsonl")]:
        if int(path.stem.rsplit("-", 1)[-1]) >= n_ranks:
            path.unlink()


class _Share:
    """One rank's shots and the files they go to.

    Shots are made in parts, whatever the number of ranks: small files that appear whole, so that a run that was killed
    goes on with the part that it was at. Then they become one file.
    """

    def __init__(self, step: StepRun, config: SimulateSfxConfig, counter: Counter, progress: Progress) -> None:
        rank, size = step.comm.rank, step.comm.size
        self._step = step
        self._config = config
        self._counter = counter
        self._progress = progress
        self._part = _part_size(config.n_shots)
        n_parts = -(-config.n_shots // self._part)
        self._parts = range(n_parts * rank // size, n_parts * (rank + 1) // size)
        self._frames = step.out / f"rank-{rank:05d}.h5"
        self._truth = step.out / f"truth-{rank:05d}.jsonl"
        self._done = step.work / f"done-{rank:05d}-of-{size:05d}.json"

    def make(self, simulator: ShotSimulator) -> int:
        """Simulate what is not there yet; return the number of hits."""
        if not self._parts:
            return 0
        if not self._done.is_file():
            for part in self._parts:
                self._simulate(part, simulator)
            self._join(simulator.detector)
        truth = read_truth(self._truth)
        self._step.add_container(self._frames, "frames", rows=len(truth))
        self._step.add_container(self._truth, "truth", rows=len(truth))
        return sum(shot.crystal is not None for shot in truth.shots)

    def _files(self, part: int) -> tuple[Path, Path]:
        return self._step.work / f"part-{part:06d}.h5", self._step.work / f"part-{part:06d}.jsonl"

    def _simulate(self, part: int, simulator: ShotSimulator) -> None:
        frames, truth = self._files(part)
        shots = range(part * self._part, min((part + 1) * self._part, self._config.n_shots))
        if truth.is_file():  # written after the frames
            for _ in shots:
                self._progress.update(self._counter.take() + 1)
            return
        records = []
        with NXmxWriter(frames, simulator.detector, len(shots), "gzip", name="simulation") as writer:
            for number in shots:
                shot = simulator.shot(number)
                writer.append(shot.images, shot.beam)
                records.append(self._record(shot))
                self._step.emit(Stage.SIMULATE, number, shot.crystal is not None, "")
                self._progress.update(self._counter.take() + 1)
        write_truth(truth, records)

    def _join(self, detector: Detector) -> None:
        records: list[TrueShot] = []
        beam = nominal_beam(self._config.pulse)
        with NXmxWriter(self._frames, detector, None, "gzip", name="simulation") as writer:
            for part in self._parts:
                frames, truth = self._files(part)
                writer.append_file(frames, beam)
                records += read_truth(truth).shots
        write_truth(self._truth, [replace(shot, index=index) for index, shot in enumerate(records)])
        write_json(self._done, {})
        for part in self._parts:
            for path in self._files(part):
                path.unlink()

    def _record(self, shot: Shot) -> TrueShot:
        crystal = self._config.crystal
        return TrueShot(
            self._frames.name,
            0,
            shot.number,
            shot.beam.wavelength_angstrom,
            shot.crystal,
            shot.scale,
            crystal.n_cells,
            crystal.mosaicity_deg,
        )
