"""Reading what dials.stills_process has written: every shot's outcome, its spots and its lattices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from exafel.engines.base import EngineLattice, EngineShot
from exafel.engines.dials_debug import DebugRecord, DebugTail, by_tag
from exafel.errors import EngineError
from exafel.io.crystal import space_group
from exafel.io.experiment import Experiment, ImageRef, experiment_identifier
from exafel.io.expt import read_expt
from exafel.io.refl import read_refl
from exafel.io.reflections import Flag, ReflectionTable


def read_results(
    work: Path, tags: Mapping[str, int], images: Mapping[int, ImageRef], group: str | None
) -> list[EngineShot]:
    """Read one run's outputs.

    Parameters
    ----------
    work
        Folder that the program wrote to.
    tags
        DIALS' names of the images, and the numbers of their shots.
    images
        The images of these shots.
    group
        Space group that the lattices were indexed with, None: DIALS' own choice. DIALS' models of stills name only
        its Laue group.

    Returns
    -------
    list of EngineShot
        Every shot of `tags`. Identifiers of experiments are ours, the same in every run.

    Raises
    ------
    EngineError
        A shot has no end, or lattices were integrated and not written.
    """
    events = by_tag(record for path in sorted(work.glob("debug/debug_*.txt")) for record in DebugTail(path).read())
    results = {shot: _outcome(shot, events.get(tag, [])) for tag, shot in tags.items()}
    unended = sum(result.outcome == "" for result in results.values())
    if unended or not events:
        raise EngineError(f"DIALS has not processed {unended or len(tags)} of {len(tags)} shots", where=work)
    found = [tags[tag] for tag, items in events.items() if tag in tags and _spots_were_found(items)]
    for shot, spots in zip(found, _strong(work, len(found)), strict=True):
        results[shot].spots = spots
    shots = {(image.path.resolve(), image.index or 0): shot for shot, image in images.items()}
    for lattice in _lattices(work):
        image = lattice.experiment.image
        shot = shots[image.path.resolve(), image.index or 0]
        results[shot].lattices.append(_own(lattice, images[shot], len(results[shot].lattices), group))
    lost = [shot for shot, result in results.items() if result.outcome == "integrated" and not result.lattices]
    if lost:
        raise EngineError(f"DIALS says that it integrated {len(lost)} shots that it has not written", where=work)
    return list(results.values())


def _outcome(shot: int, events: list[DebugRecord]) -> EngineShot:
    if not events:  # DIALS goes on to the next shot where the format's reader fails, and only its log says so
        return EngineShot(shot, "read_failed", "DIALS cannot load the image")
    return EngineShot(shot, events[-1].outcome or "", events[-1].failure.replace("_", " "))


def _spots_were_found(events: list[DebugRecord]) -> bool:
    return events[-1].outcome != "read_failed"


def _strong(work: Path, n_shots: int) -> list[ReflectionTable]:
    """Strong spots of the shots that came through spot finding; ``id`` counts these in the order of processing."""
    path = next(iter(sorted(work.glob("idx-*_strong.refl"))), None)
    if path is None:  # DIALS writes no empty table
        return [ReflectionTable() for _ in range(n_shots)]
    table = read_refl(path)
    if len(table.identifiers) != n_shots:
        raise EngineError(f"spots of {len(table.identifiers)} shots where {n_shots} were searched", where=path)
    return [table.select(table["id"] == number) for number in range(n_shots)]


def _lattices(work: Path) -> Iterator[EngineLattice]:
    for path in sorted(work.glob("idx-*_integrated.expt")):
        experiments = read_expt(path)
        integrated = read_refl(path.with_suffix(".refl"))
        indexed = read_refl(path.with_name(path.name.replace("_integrated.expt", "_indexed.refl")))
        numbers = {identifier: number for number, identifier in indexed.identifiers.items()}
        for number, experiment in enumerate(experiments):
            of_lattice = (integrated["id"] == number) & integrated.has_flag(Flag.INTEGRATED_SUM)
            spots = indexed.select(indexed["id"] == numbers[experiment.identifier])
            yield EngineLattice(experiment, integrated.select(of_lattice), spots)


def _own(lattice: EngineLattice, image: ImageRef, number: int, group: str | None) -> EngineLattice:
    """Give a lattice our identifier, our name of the image, and the space group that it was indexed with."""
    crystal = lattice.experiment.crystal
    assert crystal is not None
    identifier = experiment_identifier(image, number)
    hall = crystal.space_group_hall if group is None else str(space_group(group).hall)
    experiment: Experiment = replace(
        lattice.experiment, identifier=identifier, image=image, crystal=replace(crystal, space_group_hall=hall)
    )
    for table in (lattice.integrated, lattice.indexed):
        table["id"] = np.zeros(len(table), dtype=np.int32)
        table.identifiers = {0: identifier}
    return EngineLattice(experiment, lattice.integrated, lattice.indexed)
