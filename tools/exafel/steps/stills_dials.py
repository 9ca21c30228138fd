"""The stills step with DIALS as its engine: the ranks' shares, and DIALS' files in the words of the step."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from exafel.config.stills import StillsConfig
from exafel.engines.base import StillsEngine, StillsJob, StillsOutput
from exafel.io.experiment import ImageRef
from exafel.io.expt import read_expt
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.io.source import FrameSource
from exafel.parallel.comm import Communicator
from exafel.steps.base import Hooks, StepRun
from exafel.stills.shot import IntegratedLattice, Outcome, ShotResult


def process_with_engine(
    engine: StillsEngine,
    source: FrameSource,
    config: StillsConfig,
    step: StepRun,
    comm: Communicator,
    hooks: Hooks,
) -> list[ShotResult]:
    """Process this rank's share of the shots, every size-th one, with another program.

    Raises
    ------
    EngineError
        The program is missing, cannot do the step, or did not write what it should have.
    """
    if comm.rank == 0:
        engine.check()
    comm.barrier()
    shots = range(comm.rank, len(source), comm.size)
    name = f"rank-{comm.rank:05d}"
    job = StillsJob(source, shots, config, step.work / name, step.out / "logs" / f"{name}.log")
    with hooks.progress(f"stills (engine {step.request.engine})", len(source)) as bar:
        output = engine.run(job, step.emit, lambda count: bar.update(min(count * comm.size, len(source))))
        bar.update(len(source))
    return _results(output, {shot: source.image(shot) for shot in shots})


def _results(output: StillsOutput, images: dict[int, ImageRef]) -> list[ShotResult]:
    lattices = _lattices_by_image(output)
    results = []
    for item in sorted(output.results, key=lambda item: item.shot):
        image = images[item.shot]
        result = ShotResult(item.shot, image, Outcome(item.outcome), item.reason)
        result.lattices = lattices.get(_key(image), [])
        results.append(result)
    return results


def _lattices_by_image(output: StillsOutput) -> dict[tuple[Path, int], list[IntegratedLattice]]:
    lattices: dict[tuple[Path, int], list[IntegratedLattice]] = defaultdict(list)
    if output.expt is None or output.refl is None:
        return lattices
    reflections = read_refl(output.refl)
    for number, experiment in enumerate(read_expt(output.expt)):
        table = reflections.select(reflections["id"] == number)
        table["id"] = np.zeros(len(table), dtype=np.int32)
        table.identifiers = {0: experiment.identifier}
        lattice = IntegratedLattice(experiment, table, ReflectionTable(), None)
        lattices[_key(experiment.image)].append(lattice)
    return lattices


def _key(image: ImageRef) -> tuple[Path, int]:
    return image.path.resolve(), image.index or 0
