"""The files of the stills step: integrated lattices, indexed spots, strong spots of a few shots, one row a shot.

A rank writes, kinds of the manifest in brackets:

- ``rank-NNNNN.expt`` and ``rank-NNNNN.refl`` [expt, refl]: the integrated lattices;
- ``rank-NNNNN_indexed.refl`` [indexed]: the strong spots that each lattice indexes, of the same experiments;
- ``rank-NNNNN_strong.refl`` [strong]: all strong spots of the first shots of the run; ``id`` counts shots, and the
  identifiers are those of the shots' first lattices;
- ``rank-NNNNN_shots.jsonl`` [shots]: one JSON object a shot, see `ShotRow`.

A rank with very many reflections goes on in ``rank-NNNNN-001.expt`` and so on: memory is bounded by one such part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from exafel.config.stills import StillsConfig
from exafel.io.experiment import ExperimentList, experiment_identifier
from exafel.io.expt import write_expt
from exafel.io.files import atomic_write
from exafel.io.refl import write_refl
from exafel.io.reflections import ReflectionTable
from exafel.steps.base import StepRun
from exafel.steps.stills_tally import LatticeRow, ShotRow, Tally
from exafel.stills.integration import signal_limit
from exafel.stills.shot import IntegratedLattice, ShotResult

REFLECTIONS_PER_CONTAINER = 250_000
"""Reflections from which on a container is full: about half a gigabyte of memory while it is written."""


def remove_leftovers(folder: Path) -> None:
    """Remove what a run without a manifest left, perhaps of more ranks: the report shows the tables of such runs."""
    for pattern in ("rank-*.expt", "rank-*.refl", "rank-*_shots.jsonl"):
        for path in folder.glob(pattern):
            path.unlink()


def write_results(results: Iterable[ShotResult], config: StillsConfig, step: StepRun) -> Tally:
    """Write this rank's containers and record them, taking one shot after the other; return their statistics."""
    rank = step.comm.rank
    stem = f"rank-{rank:05d}"
    tally = Tally()
    strong: list[ReflectionTable] = []
    lattices: list[IntegratedLattice] = []
    part = held = 0
    path = step.out / f"{stem}_shots.jsonl"
    with atomic_write(path) as stream:
        for result in results:
            row = shot_row(result, rank)
            stream.write(row.model_dump_json().encode() + b"\n")
            tally.add(row)
            if keeps_spots(result, config) and len(result.spots):
                strong.append(_strong_spots(result))
            lattices += result.lattices
            held += sum(len(lattice.integrated) for lattice in result.lattices)
            if held >= REFLECTIONS_PER_CONTAINER:
                _write_lattices(step, _part(stem, part), lattices)
                lattices, held, part = [], 0, part + 1
    step.add_container(path, "shots", rows=tally.n_shots)
    if lattices:
        _write_lattices(step, _part(stem, part), lattices)
    if strong:
        _write_refl(step, step.out / f"{stem}_strong.refl", "strong", ReflectionTable.concatenate(strong))
    return tally


def _part(stem: str, part: int) -> str:
    return f"{stem}-{part:03d}" if part else stem


def keeps_spots(result: ShotResult, config: StillsConfig) -> bool:
    """Whether a shot's strong spots are kept for pictures; all shots' would fill memory and disk."""
    return result.number < config.keep_spots_of


def _write_lattices(step: StepRun, stem: str, lattices: Sequence[IntegratedLattice]) -> None:
    path = step.out / f"{stem}.expt"
    write_expt(path, ExperimentList([lattice.experiment for lattice in lattices]))
    step.add_container(path, "expt", rows=len(lattices))
    integrated = ReflectionTable.concatenate([lattice.integrated for lattice in lattices])
    _write_refl(step, step.out / f"{stem}.refl", "refl", integrated)
    indexed = ReflectionTable.concatenate([lattice.indexed for lattice in lattices])
    if len(indexed):  # another engine may not tell
        _write_refl(step, step.out / f"{stem}_indexed.refl", "indexed", indexed)


def _write_refl(step: StepRun, path: Path, kind: str, table: ReflectionTable) -> None:
    write_refl(path, table)
    step.add_container(path, kind, rows=len(table))


def _strong_spots(result: ShotResult) -> ReflectionTable:
    spots = result.spots.select(np.arange(len(result.spots)))
    spots["id"] = np.zeros(len(spots), dtype=np.int32)
    spots.identifiers = {0: experiment_identifier(result.image, 0)}
    return spots


def shot_row(result: ShotResult, rank: int) -> ShotRow:
    """Describe a shot in the table of shots."""
    return ShotRow(
        shot=result.number,
        file=str(result.image.path.absolute()),
        index=result.image.index,
        rank=rank,
        outcome=result.outcome.value,
        reason=result.reason,
        n_spots=result.n_spots,
        d_min_spots=result.d_min_spots,
        sigma_px=result.sigma_px,
        lattices=tuple(_lattice_row(lattice) for lattice in result.lattices),
        cpu_s={phase: round(seconds, 6) for phase, seconds in result.cpu_s.items()},
    )


def _lattice_row(lattice: IntegratedLattice) -> LatticeRow:
    crystal, table = lattice.experiment.crystal, lattice.integrated
    assert crystal is not None
    ratio = table["intensity.sum.value"] / np.sqrt(np.maximum(table["intensity.sum.variance"], 1e-12))
    return LatticeRow(
        identifier=lattice.experiment.identifier,
        cell=crystal.cell,
        n_indexed=len(lattice.indexed),
        n_integrated=len(table),
        d_min=float(table["d"].min()),
        d_min_signal=signal_limit(table),
        mean_i_over_sigma=float(ratio.mean()),
        rmsd_px=lattice.rmsd_px,
        rmsd_delta_psi_deg=lattice.rmsd_delta_psi_deg,
        half_mosaicity_deg=crystal.half_mosaicity_deg,
        domain_size_angstrom=crystal.domain_size_angstrom,
        mosaicity_degenerate=lattice.mosaicity_degenerate,
    )
