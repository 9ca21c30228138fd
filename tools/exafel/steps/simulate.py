"""Simulate still images of protein crystals at an X-ray free-electron laser, with the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exafel.bragg.detectors import grid_detector
from exafel.bragg.shots import Shot, ShotSimulator
from exafel.bragg.structure_factors import structure_factor_table
from exafel.config.simulate import ExptDetector, SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.events import Stage
from exafel.io.expt import read_expt
from exafel.io.files import read_json, write_json
from exafel.io.geometry import EV_ANGSTROM, Detector
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.structure import read_structure, structure_factors
from exafel.io.truth import TrueShot, write_true_amplitudes, write_truth
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
    return StepRequest(STEP, config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:
    """Simulate all shots: rank r writes its share of them to ``rank-0000r.h5`` and their truth beside it.

    Shot i is the same whatever the number of ranks. A rank whose share was complete when a run was killed is not
    simulated again. Rank 0 writes the true structure factors to ``truth.mtz``.

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
            sample = _Sample.prepare(config, step.out / "truth.mtz" if comm.rank == 0 else None)
        if comm.rank == 0:
            step.add_container(step.out / "truth.mtz", "mtz", rows=sample.n_structure_factors)
            _remove_strays(step.out, comm.size)
        comm.barrier()
        first, last = (config.n_shots * (comm.rank + i) // comm.size for i in (0, 1))
        with (
            step.phase("simulate"),
            comm.counter() as counter,
            hooks.progress("simulate", config.n_shots) as progress,
        ):
            n_hits = _Share(step, config, range(first, last), counter, progress).make(sample.simulator)
        totals = comm.allreduce_sum(np.array([n_hits, step.cpu_seconds()]))
        cell = sample.cell
        return step.finish(
            Summary(
                n_shots=config.n_shots,
                n_hits=int(totals[0]),
                cell=cell,
                space_group=sample.space_group,
                n_structure_factors=sample.n_structure_factors,
                cpu_s_per_image=round(float(totals[1]) / config.n_shots, 4),
            )
        )


@dataclass(frozen=True, eq=False)
class _Sample:
    """The crystal's contents, ready to be put into the beam."""

    simulator: ShotSimulator
    cell: tuple[float, float, float, float, float, float]
    space_group: str
    n_structure_factors: int

    @staticmethod
    def prepare(config: SimulateSfxConfig, mtz: Path | None) -> _Sample:
        path = Path(config.structure)
        structure = read_structure(path)
        group = structure.find_spacegroup()
        cell = structure.cell.parameters
        wavelength = EV_ANGSTROM / config.pulse.photon_energy_ev if config.anomalous else None
        hkl, F = structure_factors(path, config.d_min_angstrom, wavelength)
        table = structure_factor_table(hkl, np.abs(F), group, anomalous=config.anomalous)
        if mtz is not None:
            write_true_amplitudes(mtz, hkl, np.abs(F), cell, group, anomalous=config.anomalous)
        simulator = ShotSimulator(config, _detector(config), table, cell, group)
        return _Sample(simulator, cell, group.hm, len(hkl))


def _remove_strays(folder: Path, n_ranks: int) -> None:
    """Remove what ranks left that a killed run had and this one has not."""
    for path in [*folder.glob("rank-*.h5"), *folder.glob("truth-*.jsonl")]:
        if int(path.stem.rsplit("-", 1)[-1]) >= n_ranks:
            path.unlink()


def _detector(config: SimulateSfxConfig) -> Detector:
    if not isinstance(config.detector, ExptDetector):
        return grid_detector(config.detector, config.readout)
    path = Path(config.detector.path)
    experiments = read_expt(path)
    if not len(experiments):
        raise InputError("no experiment with a detector", where=path)
    return experiments[0].detector


class _Share:
    """One rank's shots and the files they go to."""

    def __init__(
        self, step: StepRun, config: SimulateSfxConfig, shots: range, counter: Counter, progress: Progress
    ) -> None:
        rank, size = step.comm.rank, step.comm.size
        self._step = step
        self._config = config
        self._shots = shots
        self._counter = counter
        self._progress = progress
        self._frames = step.out / f"rank-{rank:05d}.h5"
        self._truth = step.out / f"truth-{rank:05d}.jsonl"
        self._done = step.work / f"done-{rank:05d}-of-{size:05d}.json"

    def make(self, simulator: ShotSimulator) -> int:
        """Simulate what is not there yet; return the number of hits."""
        if not self._shots:
            return 0
        if not self._done.is_file():
            write_json(self._done, {"n_hits": self._simulate(simulator)})
        self._step.add_container(self._frames, "frames", rows=len(self._shots))
        self._step.add_container(self._truth, "truth", rows=len(self._shots))
        return int(read_json(self._done)["n_hits"])

    def _simulate(self, simulator: ShotSimulator) -> int:
        records = []
        with NXmxWriter(self._frames, simulator.detector, len(self._shots), "gzip", name="simulation") as writer:
            for index, number in enumerate(self._shots):
                shot = simulator.shot(number)
                writer.append(shot.images, shot.beam)
                records.append(self._record(shot, index))
                self._step.emit(Stage.SIMULATE, number, shot.crystal is not None, "")
                self._progress.update(self._counter.take() + 1)
        write_truth(self._truth, records)
        return sum(record.crystal is not None for record in records)

    def _record(self, shot: Shot, index: int) -> TrueShot:
        return TrueShot(
            self._frames.name,
            index,
            shot.number,
            shot.beam.wavelength_angstrom,
            shot.crystal,
            shot.scale,
            self._config.crystal.n_cells,
        )
