"""Process still shots: find spots, index, refine and integrate, and say what became of every shot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import exafel
from exafel.config.stills import StillsConfig
from exafel.engines.registry import stills_engine
from exafel.errors import ConfigError
from exafel.io.crystal import space_group
from exafel.io.frames import open_frames
from exafel.io.reflections import ReflectionTable
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, require_paths
from exafel.steps.chunks import process_chunks, stored
from exafel.steps.stills_cell import cells_file, with_consensus_cell
from exafel.steps.stills_engine import process_by_engine
from exafel.steps.stills_files import keeps_spots, remove_leftovers, write_results
from exafel.steps.stills_tally import StillsSummary, batch_line, summarize
from exafel.stills.reader import ShotReader
from exafel.stills.shot import Outcome, ShotResult, process_shot


def request(config: StillsConfig, images: Sequence[Path], out: Path) -> StepRequest:
    """Describe the processing of still images.

    Parameters
    ----------
    config
        The parameters.
    images
        Image files, and folders of them.
    out
        Folder for the containers and the manifest.

    Raises
    ------
    InputError
        An input does not exist.
    ConfigError
        There is no such space group, or no cluster in the results of the cells step that is to give the cell; or two
        passes are asked for, which are two requests (`StillsConfig.first_pass`, `second_pass`).
    EngineError
        The engine is not installed.
    """
    if config.indexing.two_passes:
        hint = (
            "exafel stills --first-pass, exafel cells on its results, exafel stills --cells; a workflow does all three"
        )
        raise ConfigError("stills.indexing.two_passes asks for two runs of the step", hint=hint)
    if config.indexing.space_group is not None:
        space_group(config.indexing.space_group)
    inputs = {"images": require_paths(tuple(images), "images")}
    extra = tuple(Path(name) for name in (config.geometry.reference, config.geometry.mask) if name is not None)
    if extra:
        inputs["geometry"] = require_paths(extra, "geometry files")
    if config.indexing.cells is not None:
        inputs["cells"] = (cells_file(config.indexing.cells),)
        config = with_consensus_cell(config)
    engine = stills_engine(config.engine)
    version = exafel.__version__ if engine is None else engine.version()
    return StepRequest("stills", config, inputs, out, engine=config.engine, engine_version=version)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> StillsSummary:
    """Process all shots on all ranks.

    Raises
    ------
    InputError
        An input cannot be read at all.
    NothingUsableError
        No shot was integrated; the message says what became of them.
    EngineError
        Another program was to do the step and cannot.
    """
    config = request.config
    assert isinstance(config, StillsConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(StillsSummary)
        with step.phase("open"):
            # one rank looks into the folders, not thousands
            source = from_root(comm, lambda: open_frames(request.inputs["images"]))
            reader = ShotReader(source, config.geometry, config.untrusted)
        engine = stills_engine(request.engine)
        results: Iterable[ShotResult]
        with step.phase("shots"):
            shots = _chosen(len(source), config.max_shots)
            if engine is None:
                results = _process(reader, shots, config, step, comm, hooks)
            else:
                results = process_by_engine(engine, source, shots, config, step, comm, hooks)
        if comm.rank == 0:
            remove_leftovers(step.out)
        comm.barrier()
        with step.phase("write"):
            tally = write_results(results, config, step)
        for phase, seconds in sorted(tally.cpu_s.items()):
            step.timings.add(phase, seconds, seconds)
        tallies = comm.gather(tally)
        summary = from_root(comm, lambda: summarize(tallies or (), request.out))
        if comm.rank == 0:
            hooks.note(batch_line(summary))
        return step.finish(summary)


def _chosen(n: int, most: int | None) -> Sequence[int]:
    """Numbers of the shots that are processed, of `n`."""
    return range(n) if most is None or most >= n else [number * n // most for number in range(most)]


def _process(
    reader: ShotReader, shots: Sequence[int], config: StillsConfig, step: StepRun, comm: Communicator, hooks: Hooks
) -> Iterable[ShotResult]:
    """Process what is left to do; return this rank's shots, those of an interrupted run among them."""

    def work(number: int) -> ShotResult:
        result = process_shot(reader, number, config, step.emit)
        result.spots = result.spots if keeps_spots(result, config) else ReflectionTable()
        return result

    tally: Counter[Outcome] = Counter()

    def rates(result: ShotResult) -> str:
        tally[result.outcome] += 1
        seen = sum(tally.values())
        hits = seen - tally[Outcome.NO_HIT] - tally[Outcome.READ_FAILED]
        return f"hits {hits / seen:.0%}, integrated {tally[Outcome.INTEGRATED] / seen:.0%}"

    spools = process_chunks(step, comm, hooks, shots, config.chunk_size, work, rates)
    return cast("Iterable[ShotResult]", stored(spools))
