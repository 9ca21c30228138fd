"""Section: images with what was found on them, and what the refined lattices predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from exafel.config.report import ReportConfig
from exafel.errors import ExafelError, InputError
from exafel.io.experiment import Experiment, ImageRef, experiment_identifier
from exafel.io.expt import read_expt
from exafel.io.frames import open_frames
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.monitor.report.blocks import Section
from exafel.monitor.report.mosaic import assemble
from exafel.monitor.report.shot_picture import Marks, ShotView, draw_detail, draw_whole
from exafel.monitor.report.shots import Shots
from exafel.monitor.report.trial import StepFolder, Trial

_LARGEST_TABLE = 1 << 30
"""Bytes of a reflection table beyond which it is not read for the sake of a picture."""
_LOOK_AT = 1000
"""Shots among which one is looked for whose spots were kept: they are the first of a run."""
_WANTED = (
    ("integrated", ("integrated",), "the integrated shot with the median number of spots"),
    ("missed", ("not_indexed", "refine_failed"), "a hit that was not indexed"),
)


class TypicalShot(NamedTuple):
    """A shot to be drawn: its image, the rank that processed it, and the number of its spots."""

    image: ImageRef
    rank: int
    n_spots: int

    @property
    def identifier(self) -> str:
        """Identifier of its first lattice."""
        return experiment_identifier(self.image, 0)


def pictures_section(trial: Trial, shots: Shots | None, config: ReportConfig) -> Section | None:
    """Draw an integrated shot and a hit that was not indexed; None where there are no shots, or on request."""
    step = trial.steps.get("stills")
    if step is None or shots is None or not config.draw_images:
        return None
    section = Section("images", "Images")
    strong = ReflectionTable.concatenate([read_refl(path) for path in step.files("strong")])
    for name, outcomes, remark in _WANTED:
        shot = typical_shot(shots.shots, outcomes, set(strong.identifiers.values()))
        if shot is not None:
            _add_pictures(section, step, shot, strong, name, remark, config.image_size_px)
    if not section.blocks:
        section.note("There is neither an integrated shot nor a hit that was not indexed to draw.")
    return section


def typical_shot(shots: pd.DataFrame, outcomes: tuple[str, ...], kept: set[str]) -> TypicalShot | None:
    """Return the shot with the median number of spots among some outcomes; None where there is none.

    Parameters
    ----------
    shots
        The table of shots.
    outcomes
        Which shots to choose from.
    kept
        Identifiers of shots whose spots were kept; where there are any of these, the choice is among them.
    """
    chosen = shots[shots["outcome"].isin(outcomes)].sort_values(["n_spots", "shot"])
    first = [_typical(row) for row in chosen[chosen["shot"] < _LOOK_AT].itertuples()]
    with_spots = [shot for shot in first if shot.identifier in kept]
    if with_spots:
        return with_spots[(len(with_spots) - 1) // 2]
    return _typical(next(chosen.iloc[[(len(chosen) - 1) // 2]].itertuples())) if len(chosen) else None


def _typical(row: Any) -> TypicalShot:
    image = ImageRef(Path(row.file), None if row.index_in_file < 0 else int(row.index_in_file))
    return TypicalShot(image, int(row.rank), int(row.n_spots))


def _add_pictures(
    section: Section, step: StepFolder, shot: TypicalShot, strong: ReflectionTable, name: str, remark: str, size_px: int
) -> None:
    try:
        view = _view(step, shot, strong, name)
    except (ExafelError, IndexError) as error:
        section.note(f"{shot.image.label}, {remark}, cannot be drawn: {error}.", warning=True)
        return
    section.add(draw_whole(view, size_px, f"{remark}."), draw_detail(view))
    section.numbers[name] = {
        "image": shot.image.label,
        "n_spots": shot.n_spots,
        "n_spots_drawn": len(view.spots),
        "n_predicted": len(view.predicted),
    }


def _view(step: StepFolder, shot: TypicalShot, strong: ReflectionTable, name: str) -> ShotView:
    """Read what is to be drawn: geometry as it was processed, pixels and the file's mask, spots, predictions.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    experiments = _experiments(step, shot)
    source = open_frames([_image_file(step, shot, experiments)])
    index = shot.image.index or 0
    detector = experiments[0].detector if experiments else source.detector(index)
    beam = experiments[0].beam if experiments else source.beam(index)
    identifiers = {experiment.identifier for experiment in experiments}
    spots = _marks(strong, {shot.identifier}, "xyzobs.px.value")
    if not len(spots):
        spots = _marks(_table(step, "indexed", shot.rank), identifiers, "xyzobs.px.value")
    predicted = _marks(_table(step, "refl", shot.rank) if identifiers else None, identifiers, "xyzcal.px")
    frames = source.frame(index)
    if [np.shape(frame) for frame in frames] != [panel.shape for panel in detector.panels]:
        raise InputError("the image does not have the panels of the detector", where=shot.image.path)
    mosaic = assemble(frames, source.mask(index), detector, beam)
    return ShotView(name, shot.image.label, mosaic, detector, beam, spots, predicted)


def _image_file(step: StepFolder, shot: TypicalShot, experiments: Sequence[Experiment]) -> Path:
    """Find the image: where the table of shots has it, where its experiment has it, or with simulated results moved."""
    path = shot.image.path
    others = [*(experiment.image.path for experiment in experiments), step.path.parent / "simulate" / path.name]
    return next((place for place in (path, *others) if place.is_file()), path)


def _of_rank(step: StepFolder, kind: str, rank: int) -> list[Path]:
    containers = step.manifest.containers if step.manifest is not None else ()
    return [step.path / item.path for item in containers if item.kind == kind and item.rank == rank]


def _experiments(step: StepFolder, shot: TypicalShot) -> list[Experiment]:
    image = (shot.image.path.name, shot.image.index)
    found = (item for path in _of_rank(step, "expt", shot.rank) for item in read_expt(path))
    return [item for item in found if (item.image.path.name, item.image.index) == image and item.crystal is not None]


def _table(step: StepFolder, kind: str, rank: int) -> ReflectionTable | None:
    """Reflections of one rank; None where there are none, or far too many to read for one shot."""
    paths = [path for path in _of_rank(step, kind, rank) if path.is_file()]
    if not paths or sum(path.stat().st_size for path in paths) > _LARGEST_TABLE:
        return None
    return ReflectionTable.concatenate([read_refl(path) for path in paths])


def _marks(table: ReflectionTable | None, identifiers: set[str], column: str) -> Marks:
    """Places of the reflections of some experiments."""
    if table is None or column not in table:
        return Marks(np.zeros(0, dtype=np.int64), np.zeros((0, 2)))
    numbers = [number for number, name in table.identifiers.items() if name in identifiers]
    rows = np.isin(table["id"], numbers)
    return Marks(table["panel"][rows].astype(np.int64), np.asarray(table[column][rows, :2], dtype=np.float64))
