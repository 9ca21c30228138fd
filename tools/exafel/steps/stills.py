"""Process still shots: find spots, index, refine and integrate, and say what became of every shot."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

import exafel
from exafel.config.stills import StillsConfig
from exafel.engines.registry import stills_engine
from exafel.errors import ConfigError, NothingUsableError
from exafel.io.crystal import CellParameters, space_group
from exafel.io.frames import open_frames
from exafel.io.reflections import ReflectionTable
from exafel.parallel import safe_pickle
from exafel.parallel.comm import Communicator, from_root
from exafel.parallel.spool import ChunkSpool, read_spool
from exafel.steps.base import QUIET, Hooks, Progress, StepRequest, StepRun, StepSummary, require_paths
from exafel.steps.stills_engine import process_by_engine
from exafel.steps.stills_files import ShotRow, keeps_spots, remove_leftovers, write_results
from exafel.stills.reader import ShotReader
from exafel.stills.shot import Outcome, ShotResult, process_shot

_CHUNKS_PER_RANK = 4
"""Turns that each rank should get at the least, so that slow shots even out."""


class StillsSummary(StepSummary):
    """What became of the shots."""

    n_shots: int = Field(description="Shots in the input.")
    n_hits: int = Field(description="Shots with enough spots.")
    n_indexed: int = Field(description="Shots with at least one lattice.")
    n_integrated: int = Field(description="Shots with at least one integrated lattice.")
    n_lattices: int = Field(description="Integrated lattices.")
    n_reflections: int = Field(description="Integrated reflections.")
    outcomes: dict[str, int] = Field(description="Shots by outcome.")
    reasons: dict[str, int] = Field(description="Shots that were not integrated, by reason.")
    hit_rate: float = Field(description="Hits of all shots.")
    indexed_of_hits: float = Field(description="Indexed shots of the hits.")
    indexed_of_shots: float = Field(description="Indexed shots of all.")
    cell_median: CellParameters = Field(description="Median of each cell parameter, angstrom and degrees.")
    rmsd_px_median: float = Field(description="Median rmsd of spot positions.")
    cpu_s_per_image: float = Field(description="CPU seconds a shot, reading included.")
    cpu_s_per_phase: dict[str, float] = Field(description="CPU seconds a shot of each phase.")


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
        There is no unit cell to index with, or no such space group.
    EngineError
        The engine is not installed.
    """
    if config.indexing.unit_cell is None:
        raise ConfigError(
            "indexing needs the unit cell", where="stills.indexing.unit_cell", hint="give a, b, c, alpha, beta, gamma"
        )
    space_group(config.indexing.space_group)
    inputs = {"images": require_paths(tuple(images), "images")}
    extra = tuple(Path(name) for name in (config.geometry.reference, config.geometry.mask) if name is not None)
    if extra:
        inputs["geometry"] = require_paths(extra, "geometry files")
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
            reader = ShotReader(source, config.geometry)
        engine = stills_engine(request.engine)
        with step.phase("shots"):
            if engine is None:
                results = _process(reader, config, step, comm, hooks)
            else:
                results = process_by_engine(engine, source, config, step, comm, hooks)
        if comm.rank == 0:
            remove_leftovers(step.out)
        comm.barrier()
        with step.phase("write"):
            rows = write_results(results, config, step)
        gathered = comm.gather(rows)
        for phase in sorted({name for row in rows for name in row.cpu_s}):
            seconds = sum(row.cpu_s.get(phase, 0.0) for row in rows)
            step.timings.add(phase, seconds, seconds)
        summary = from_root(comm, lambda: summarize(_table(gathered), request.out))
        if comm.rank == 0:
            hooks.note(batch_line(summary))
        return step.finish(summary)


def _table(gathered: Sequence[Sequence[ShotRow]] | None) -> list[ShotRow]:
    """All ranks' rows in the order of shots."""
    return sorted((row for rows in gathered or () for row in rows), key=lambda row: row.shot)


def _process(
    reader: ShotReader, config: StillsConfig, step: StepRun, comm: Communicator, hooks: Hooks
) -> list[ShotResult]:
    """Process what is left to do; return this rank's shots, those of an interrupted run among them."""
    results = _resume(step, comm)
    done = {number for numbers in comm.allgather([item.number for item in results]) for number in numbers}
    left = [number for number in range(len(reader)) if number not in done]
    size = max(1, min(config.chunk_size, len(left) // (_CHUNKS_PER_RANK * comm.size)))
    tally = Counter(item.outcome for item in results)
    path = step.work / f"rank-{comm.rank:05d}.spool"
    with hooks.progress("stills", len(reader)) as bar, ChunkSpool(path) as spool, comm.counter() as counter:
        while (first := counter.take(size)) < len(left):
            _show(bar, len(done) + first, tally)
            chunk = [process_shot(reader, number, config, step.emit) for number in left[first : first + size]]
            for item in chunk:
                item.spots = item.spots if keeps_spots(item, config) else ReflectionTable()
            spool.append(pickle.dumps(chunk))
            tally.update(item.outcome for item in chunk)
            results.extend(chunk)
        _show(bar, len(reader), tally)
    return sorted(results, key=lambda item: item.number)


def _resume(step: StepRun, comm: Communicator) -> list[ShotResult]:
    """Shots that an interrupted run has finished: those of this rank's spool, and a share of ranks that are no more."""
    if comm.rank == 0:
        step.work.mkdir(parents=True, exist_ok=True)
        found = sorted(step.work.glob("rank-*.spool"))
    else:
        found = []
    mine = [path for path in comm.bcast(found) if int(path.stem.removeprefix("rank-")) % comm.size == comm.rank]
    chunks = [safe_pickle.loads(record, where=str(path)) for path in mine for record in read_spool(path)]
    return [item for chunk in chunks for item in chunk]


def _show(bar: Progress, done: int, tally: Counter[Outcome]) -> None:
    seen = sum(tally.values())
    if seen:
        hits = seen - tally[Outcome.NO_HIT] - tally[Outcome.READ_FAILED]
        bar.update(done, f"hits {hits / seen:.0%}, integrated {tally[Outcome.INTEGRATED] / seen:.0%}")


def summarize(rows: Sequence[ShotRow], out: Path) -> StillsSummary:
    """Sum up the shots of all ranks, whose table lies in `out`.

    Raises
    ------
    NothingUsableError
        No shot was integrated.
    """
    outcomes = Counter(row.outcome for row in rows)
    reasons = Counter(f"{row.outcome}: {row.reason}" for row in rows if row.reason)
    n_integrated = outcomes[Outcome.INTEGRATED]
    if not n_integrated:
        table = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise NothingUsableError(
            f"none of {len(rows)} shots was integrated: {table}",
            where=out,
            hint="rank-*_shots.jsonl there has every shot's file and reason",
        )
    n_hits = len(rows) - outcomes[Outcome.NO_HIT] - outcomes[Outcome.READ_FAILED]
    n_indexed = n_integrated + outcomes[Outcome.INTEGRATE_FAILED]
    lattices = [lattice for row in rows for lattice in row.lattices]
    phases = sorted({phase for row in rows for phase in row.cpu_s})
    per_phase = {phase: sum(row.cpu_s.get(phase, 0.0) for row in rows) / len(rows) for phase in phases}
    a, b, c, alpha, beta, gamma = (_median([lattice.cell[k] for lattice in lattices]) for k in range(6))
    return StillsSummary(
        n_shots=len(rows),
        n_hits=n_hits,
        n_indexed=n_indexed,
        n_integrated=n_integrated,
        n_lattices=len(lattices),
        n_reflections=sum(lattice.n_integrated for lattice in lattices),
        outcomes={str(name): count for name, count in sorted(outcomes.items())},
        reasons=dict(reasons.most_common()),
        hit_rate=n_hits / len(rows),
        indexed_of_hits=n_indexed / n_hits,
        indexed_of_shots=n_indexed / len(rows),
        cell_median=(a, b, c, alpha, beta, gamma),
        rmsd_px_median=_median([lattice.rmsd_px for lattice in lattices]),
        cpu_s_per_image=round(sum(per_phase.values()), 5),
        cpu_s_per_phase={phase: round(value, 5) for phase, value in per_phase.items()},
    )


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)


def batch_line(summary: StillsSummary) -> str:
    """One line on a batch: hit rate, indexed of hits and of all, cell."""
    cell = " ".join(f"{value:.2f}" for value in summary.cell_median)
    return (
        f"{summary.n_shots} shots: hits {summary.hit_rate:.1%}, indexed {summary.indexed_of_hits:.1%} of hits, "
        f"{summary.indexed_of_shots:.1%} of all; {summary.n_integrated} integrated; median cell {cell}"
    )
