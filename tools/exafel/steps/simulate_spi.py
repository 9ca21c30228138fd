"""Simulate shots of single particles at an X-ray free-electron laser, with the truth beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.errors import ConfigError
from exafel.io.events import Stage
from exafel.io.files import read_json, write_json
from exafel.io.spi_file import SpiGeometry, SpiWriter
from exafel.parallel.comm import Communicator, Counter
from exafel.spi.particles import Particle, hydrated, read_particles
from exafel.spi.shots import ShotPlan, SpiSimulator
from exafel.steps.base import QUIET, Hooks, Progress, StepRequest, StepRun, StepSummary

STEP = "simulate_spi"


class Summary(StepSummary):
    """What was simulated."""

    n_shots: int
    n_hits: int
    n_conformations: int
    n_atoms: tuple[int, ...]
    radius_angstrom: tuple[float, ...]
    mean_photons: float
    resolution_angstrom: float
    cpu_s_per_image: float


def request(config: SimulateSpiConfig | None, out: Path) -> StepRequest:
    """Say what is to be simulated, and where it goes."""
    if config is None:
        raise ConfigError("'simulate_spi' is required")
    return StepRequest(STEP, config, {"structures": tuple(Path(name) for name in config.structures)}, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:
    """Simulate all shots: rank r writes its share of them, with their truth, to ``rank-0000r.h5``.

    Shot i is the same whatever the number of ranks. A rank whose share was complete when a run was killed is not
    simulated again.

    Raises
    ------
    InputError
        A structure cannot be read.
    """
    config = request.config
    assert isinstance(config, SimulateSpiConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Summary)
        with step.phase("structures"):
            particles, shares = _conformations(config)
            simulator = SpiSimulator(config, particles, shares)
        if comm.rank == 0:
            for path in step.out.glob("rank-*.h5"):
                if int(path.stem.rsplit("-", 1)[-1]) >= comm.size:
                    path.unlink()
        comm.barrier()
        first, last = (config.n_shots * (comm.rank + i) // comm.size for i in (0, 1))
        with step.phase("simulate"), comm.counter() as counter, hooks.progress(STEP, config.n_shots) as progress:
            hits, photons = _Share(step, simulator, range(first, last), counter, progress).make()
        totals = comm.allreduce_sum(np.array([hits, photons, step.cpu_seconds()]))
        longest = np.linalg.norm(simulator.reciprocal().reshape(3, -1), axis=0).max()
        return step.finish(
            Summary(
                n_shots=config.n_shots,
                n_hits=int(totals[0]),
                n_conformations=len(particles),
                n_atoms=tuple(item.n_atoms for item in particles),
                radius_angstrom=tuple(round(item.radius_angstrom, 2) for item in particles),
                mean_photons=round(float(totals[1]) / config.n_shots, 3),
                resolution_angstrom=round(float(1 / longest), 3),
                cpu_s_per_image=round(float(totals[2]) / config.n_shots, 5),
            )
        )


def _conformations(config: SimulateSpiConfig) -> tuple[list[Particle], list[float]]:
    """All conformations and their shares; the models of one file share that of the file."""
    fractions = config.fractions or (1.0,) * len(config.structures)
    particles: list[Particle] = []
    shares: list[float] = []
    water = config.hydration
    for name, fraction in zip(config.structures, fractions, strict=True):
        models = read_particles(Path(name), b_factors=config.b_factors)
        particles += [hydrated(item, water.thickness_angstrom, water.density, water.mesh_angstrom) for item in models]
        shares += [fraction / len(models)] * len(models)
    return particles, shares


class _Share:
    """One rank's shots and their file."""

    def __init__(
        self, step: StepRun, simulator: SpiSimulator, shots: range, counter: Counter, progress: Progress
    ) -> None:
        rank, size = step.comm.rank, step.comm.size
        self._step, self._simulator, self._shots = step, simulator, shots
        self._counter, self._progress = counter, progress
        self._path = step.out / f"rank-{rank:05d}.h5"
        self._done = step.work / f"done-{rank:05d}-of-{size:05d}.json"

    def make(self) -> tuple[int, float]:
        """Simulate what is not there yet; return the number of hits, and of photons in all shots."""
        if not self._shots:
            return 0, 0.0
        if not self._done.is_file():
            hits, photons = self._simulate()
            write_json(self._done, {"hits": hits, "photons": photons})
        self._step.add_container(self._path, "frames", rows=len(self._shots))
        record = read_json(self._done)
        return int(record["hits"]), float(record["photons"])

    def _simulate(self) -> tuple[int, float]:
        simulator, shots = self._simulator, self._shots
        geometry = SpiGeometry(simulator.reciprocal(), simulator.good, simulator.places.index_map)
        plans = [simulator.plan(number) for number in shots]
        photons = 0.0
        with SpiWriter(self._path, geometry, len(shots)) as writer:
            step = simulator.batch_size()
            for first in range(0, len(plans), step):
                part = plans[first : first + step]
                images = [
                    simulator.measured(plan, expected)
                    for plan, expected in zip(part, simulator.expected(part), strict=True)
                ]
                writer.append(np.stack(images))
                photons += float(sum(image.sum(dtype=np.float64) for image in images))
                for plan in part:
                    self._step.emit(Stage.SIMULATE, plan.number, len(plan.orientations), "")
                self._progress.update(self._counter.take(len(part)) + len(part))
            writer.write_truth(truth_of(plans))
        return sum(len(plan.orientations) > 0 for plan in plans), photons


def truth_of(plans: Sequence[ShotPlan]) -> dict[str, Any]:
    """Truth by the names of the file; orientation and conformation are those of a shot's first particle."""
    unknown = np.array([np.nan] * 4)
    return {
        "shots": np.array([plan.number for plan in plans]),
        "orientations": np.array([plan.orientations[0] if len(plan.orientations) else unknown for plan in plans]),
        "conformations": np.array([plan.conformations[0] if len(plan.conformations) else -1 for plan in plans]),
        "n_particles": np.array([len(plan.orientations) for plan in plans]),
        "fluences": np.array([plan.fluence for plan in plans]),
        "beam_offsets": np.array([plan.offset_px for plan in plans]),
    }
