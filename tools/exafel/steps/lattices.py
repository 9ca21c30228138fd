"""Lattices of an earlier step one at a time: experiment, reflections, and the pixels of its image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.bragg.shot_table import Row, read_table
from exafel.config.base import Model, validate
from exafel.config.stills import GeometryConfig
from exafel.config.untrusted import UntrustedConfig
from exafel.errors import InputError
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import read_expt
from exafel.io.frames import open_frames
from exafel.io.geometry import Beam
from exafel.io.manifest import read_manifest, verify_containers
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.stills.reader import ShotReader


class Corrections(Model):
    """What the stills step corrected in the images' metadata, besides the detector, which is in the experiments."""

    mask: str | None = None
    wavelength_angstrom: float | None = None
    untrusted: UntrustedConfig = UntrustedConfig()


@dataclass(frozen=True)
class Container:
    """One rank's lattices: its experiments, reflections and table of rows (None where the step wrote none)."""

    experiments: Path
    reflections: Path
    table: Path | None
    rows: int
    corrections: Corrections


def list_containers(folders: Sequence[Path], reflections: str) -> list[Container]:
    """Containers of finished steps, in rank order.

    Parameters
    ----------
    folders
        Folders with manifests.
    reflections
        Kind of the reflection tables wanted: ``indexed`` or ``refl``.

    Raises
    ------
    InputError
        A folder has no manifest, a container is gone or changed, or there are no lattices.
    """
    found = []
    for folder in folders:
        manifest = read_manifest(folder)
        verify_containers(folder, manifest)
        corrections = _corrections(manifest.config, folder)
        rows = {folder / item.path: item.rows for item in manifest.containers if item.kind == "expt"}
        tables = {path.stem: path for path in manifest.files(folder, "table")}
        others = {path.stem.removesuffix("_indexed"): path for path in manifest.files(folder, reflections)}
        for path in manifest.files(folder, "expt"):
            if path.stem not in others:
                raise InputError(f"no {reflections} reflections beside it", where=path, hint="run that step again")
            found.append(Container(path, others[path.stem], tables.get(path.stem), rows[path], corrections))
    if not found:
        raise InputError("no lattices in this folder", where=folders[0], hint="look at that step's table of reasons")
    return found


def _corrections(config: dict[str, Any], folder: Path) -> Corrections:
    """Corrections of a stills step; of later steps none, they are in the rows of their tables."""
    geometry = validate(GeometryConfig, config.get("geometry", {}), where=folder)
    return Corrections(
        mask=geometry.mask,
        wavelength_angstrom=geometry.wavelength_angstrom,
        untrusted=validate(UntrustedConfig, config.get("untrusted", {}), where=folder),
    )


@dataclass(frozen=True, eq=False)
class LatticeRecord:
    """One lattice as a step wrote it; `row` is empty where that has no table."""

    experiment: Experiment
    reflections: ReflectionTable
    row: Row
    corrections: Corrections


class LatticeSource:
    """Lattices by number over all containers; two containers at most are in memory."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self.containers = containers
        self._starts = np.cumsum([0, *(item.rows for item in containers)])
        self._load = lru_cache(maxsize=2)(self._read)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> LatticeRecord:
        which = int(np.searchsorted(self._starts, number, side="right")) - 1
        local = number - int(self._starts[which])
        experiments, reflections, order, rows = self._load(which)
        bounds = np.searchsorted(reflections["id"][order], [local, local + 1])
        chosen = reflections.select(order[bounds[0] : bounds[1]])
        row = rows[local] if rows else {}
        corrections = self.containers[which].corrections
        if row:
            corrections = validate(
                Corrections, json.loads(row["image_corrections"]), where=experiments[local].identifier
            )
        return LatticeRecord(experiments[local], chosen, row, corrections)

    def _read(self, which: int) -> tuple[ExperimentList, ReflectionTable, AnyArray, list[Row]]:
        item = self.containers[which]
        reflections = read_refl(item.reflections)
        rows = [] if item.table is None else read_table(item.table)
        experiments = read_expt(item.experiments)
        if len(experiments) != item.rows or (rows and len(rows) != item.rows):
            raise InputError("other rows than the manifest says", where=item.experiments)
        return experiments, reflections, np.argsort(reflections["id"], kind="stable"), rows


@dataclass(frozen=True, eq=False)
class ImagePixels:
    """Pixels and masks of an image, one array of shape (slow, fast) a panel, and its beam with the spectrum."""

    frames: list[AnyArray]
    masks: list[BoolArray]
    beam: Beam


class ImageReader:
    """Images by reference; the file read last stays open."""

    def __init__(self, photons: float) -> None:
        self._photons = photons
        self._open = lru_cache(maxsize=4)(_open_reader)

    def read(self, image: ImageRef, corrections: Corrections) -> ImagePixels:
        """Read an image.

        Raises
        ------
        InputError
            The file is missing or damaged, or this image of it is.
        """
        shot = self._open(image.path, corrections.model_dump_json()).read(image.index or 0)
        flux = shot.beam.flux if shot.beam.flux > 0 else self._photons
        return ImagePixels(shot.frames, shot.masks, replace(shot.beam, flux=flux))


def _open_reader(path: Path, text: str) -> ShotReader:
    corrections = Corrections.model_validate_json(text)
    geometry = GeometryConfig(mask=corrections.mask, wavelength_angstrom=corrections.wavelength_angstrom)
    return ShotReader(open_frames([path]), geometry, corrections.untrusted)
