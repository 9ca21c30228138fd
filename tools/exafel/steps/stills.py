"""Process still shots: find spots, index, refine and integrate, and say what became of every shot."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import exafel
from exafel.config.stills import StillsConfig
from exafel.engines.registry import stills_engine
from exafel.io.crystal import space_group
from exafel.io.frames import open_frames
from exafel.io.reflections import ReflectionTable
from exafel.parallel import safe_pickle
from exafel.parallel.comm import Communicator, from_root
from exafel.parallel.spool import ChunkSpool, read_spool
from exafel.steps.base import QUIET, Hooks, Progress, StepRequest, StepRun, require_paths
from exafel.steps.chunks import left_behind
from exafel.steps.stills_cell import cells_file, with_consensus_cell
from exafel.steps.stills_engine import process_by_engine
from exafel.steps.stills_files import keeps_spots, remove_leftovers, write_results
from exafel.steps.stills_tally import StillsSummary, batch_line, summarize
from exafel.stills.reader import ShotReader
from exafel.stills.shot import Outcome, ShotResult, process_shot

_CHUNKS_PER_RANK = 4
"""Turns that each rank should get at the least, so that slow shots even out."""


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
        There is no such space group, or no cluster in the results of the cells step that is to give the cell.
    EngineError
        The engine is not installed.
    """
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
            if engine is None:
                results = _stored_shots(_process(reader, config, step, comm, hooks))
            else:
                results = process_by_engine(engine, source, config, step, comm, hooks)
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


def _process(reader: ShotReader, config: StillsConfig, step: StepRun, comm: Communicator, hooks: Hooks) -> list[Path]:
    """Process what is left to do; return the spools of this rank's shots, those of an interrupted run among them.

    Only the chunk at work is in memory: what is finished lies in the spool.
    """
    spools = left_behind(step, comm)
    mine: list[int] = []
    tally: Counter[Outcome] = Counter()
    for item in _stored_shots(spools):
        mine.append(item.number)
        tally[item.outcome] += 1
    done = {number for numbers in comm.allgather(mine) for number in numbers}
    left = [number for number in range(len(reader)) if number not in done]
    size = max(1, min(config.chunk_size, len(left) // (_CHUNKS_PER_RANK * comm.size)))
    path = step.work / f"rank-{comm.rank:05d}.spool"
    with hooks.progress("stills", len(reader)) as bar, ChunkSpool(path) as spool, comm.counter() as counter:
        while (first := counter.take(size)) < len(left):
            _show(bar, len(done) + first, tally)
            chunk = [process_shot(reader, number, config, step.emit) for number in left[first : first + size]]
            for item in chunk:
                item.spots = item.spots if keeps_spots(item, config) else ReflectionTable()
            spool.append(pickle.dumps(chunk))
            tally.update(item.outcome for item in chunk)
        _show(bar, len(reader), tally)
    return sorted({path, *spools})


def _stored_shots(spools: Sequence[Path]) -> Iterator[ShotResult]:
    """Shots in spools, a chunk at a time in memory."""
    for path in spools:
        for record in read_spool(path):
            yield from safe_pickle.loads(record, where=str(path))


def _show(bar: Progress, done: int, tally: Counter[Outcome]) -> None:
    seen = sum(tally.values())
    if seen:
        hits = seen - tally[Outcome.NO_HIT] - tally[Outcome.READ_FAILED]
        bar.update(done, f"hits {hits / seen:.0%}, integrated {tally[Outcome.INTEGRATED] / seen:.0%}")
