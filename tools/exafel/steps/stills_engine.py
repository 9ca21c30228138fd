"""The stills step by a program of another project: each rank hands its share of the shots to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exafel.config.stills import StillsConfig
from exafel.engines.base import EngineLattice, EngineShot, StillsEngine, StillsJob
from exafel.io.source import FrameSource
from exafel.parallel.comm import Communicator
from exafel.steps.base import Hooks, StepRun
from exafel.stills.shot import IntegratedLattice, Outcome, ShotResult


def process_by_engine(
    engine: StillsEngine,
    source: FrameSource,
    shots: Sequence[int],
    config: StillsConfig,
    step: StepRun,
    comm: Communicator,
    hooks: Hooks,
) -> list[ShotResult]:
    """Process this rank's share of the shots, every ``comm.size``-th, by an engine.

    Raises
    ------
    EngineError
        The program cannot do the step, failed, or did not write what it should have.
    """
    engine.check()
    unused = engine.unused(config)
    if unused and comm.rank == 0:
        hooks.note(f"engine {config.engine} has no parameter like stills.{', stills.'.join(unused)}: not used")
    mine = shots[comm.rank :: comm.size]
    job = StillsJob(
        source=source,
        shots=mine,
        config=config,
        work=step.work / f"{config.engine}-{comm.rank:05d}-of-{comm.size:05d}",
        log=step.out / "logs" / f"{config.engine}-{comm.rank:05d}.log",
    )
    with hooks.progress(f"stills of rank {comm.rank}", len(mine)) as bar:
        results = engine.run(job, step.emit, bar.update)
    return sorted((_native(result, source, config.engine) for result in results), key=lambda item: item.number)


def _native(result: EngineShot, source: FrameSource, engine: str) -> ShotResult:
    return ShotResult(
        number=result.shot,
        image=source.image(result.shot),
        outcome=Outcome(result.outcome),
        reason=result.reason,
        n_spots=len(result.spots),
        spots=result.spots,
        lattices=[_native_lattice(lattice) for lattice in result.lattices],
        cpu_s={engine: result.cpu_s},
    )


def _native_lattice(lattice: EngineLattice) -> IntegratedLattice:
    offsets = (lattice.indexed["xyzobs.px.value"] - lattice.indexed["xyzcal.px"])[:, :2]
    rmsd_px = float((offsets**2).sum(axis=1).mean() ** 0.5)
    rmsd_delta_psi_deg = float(np.degrees((lattice.indexed["delpsical.rad"] ** 2).mean() ** 0.5))
    return IntegratedLattice(lattice.experiment, lattice.integrated, lattice.indexed, rmsd_px, rmsd_delta_psi_deg)
