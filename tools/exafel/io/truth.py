"""Truth of simulated data: what each image was made from, one JSON object a line; and true structure factors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import InputError
from exafel.io.crystal import CellParameters, Crystal, orthogonalization, space_group
from exafel.io.experiment import ImageRef
from exafel.io.files import atomic_write, read_json
from exafel.io.manifest import MANIFEST_NAME, read_manifest


@dataclass(frozen=True, eq=False)
class TrueShot:
    """What one simulated image was made from.

    Parameters
    ----------
    file
        Name of the image file, without its folder; empty where the truth belongs to the only file there is.
    index
        Number of the image in it.
    shot
        Number of the shot in the simulation.
    wavelength_angstrom
        Of the mean energy of the pulse.
    crystal
        Mean orientation and unit cell; None for a shot that missed.
    scale
        Mosaic blocks in the beam.
    n_cells
        Unit cells of a mosaic block along a, b and c.
    mosaicity_deg
        Rms angle of mosaic blocks, or three about the axes of the crystal's own frame.
    """

    file: str
    index: int
    shot: int
    wavelength_angstrom: float
    crystal: Crystal | None
    scale: float = 0.0
    n_cells: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mosaicity_deg: float | tuple[float, float, float] = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data; the rows of ``real_space`` are a, b, c in the laboratory frame, angstrom."""
        crystal = self.crystal
        return {
            "file": self.file,
            "index": self.index,
            "shot": self.shot,
            "hit": crystal is not None,
            "wavelength_angstrom": self.wavelength_angstrom,
            "real_space": None if crystal is None else crystal.real_space.tolist(),
            "U": None if crystal is None else crystal.U.tolist(),
            "cell": None if crystal is None else list(crystal.cell),
            "space_group_hall": None if crystal is None else crystal.space_group_hall,
            "scale": self.scale,
            "n_cells": list(self.n_cells),
            "mosaicity_deg": self.mosaicity_deg,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> TrueShot:
        """Read what `to_json` wrote."""
        crystal = Crystal(np.array(data["real_space"]), data["space_group_hall"]) if data["hit"] else None
        first, second, third = data["n_cells"]
        mosaicity = data.get("mosaicity_deg", 0.0)
        return TrueShot(
            data["file"],
            data["index"],
            data["shot"],
            data["wavelength_angstrom"],
            crystal,
            data["scale"],
            (first, second, third),
            tuple(mosaicity) if isinstance(mosaicity, list) else mosaicity,
        )


class Truth:
    """True shots by image.

    Parameters
    ----------
    shots
        The records.
    """

    def __init__(self, shots: Iterable[TrueShot]) -> None:
        self.shots = list(shots)
        self._by_image = {(shot.file, shot.index): shot for shot in self.shots}

    def __len__(self) -> int:
        return len(self.shots)

    def find(self, image: ImageRef) -> TrueShot | None:
        """Return the record of an image, by the file's name and the image's number; None where there is none."""
        index = image.index or 0
        return self._by_image.get((image.path.name, index)) or self._by_image.get(("", index))


def write_truth(path: Path, shots: Iterable[TrueShot]) -> None:
    """Write one JSON object a line."""
    with atomic_write(path) as stream:
        for shot in shots:
            stream.write(json.dumps(shot.to_json(), allow_nan=False).encode() + b"\n")


def read_truth(path: Path) -> Truth:
    """Read truth: a folder of a finished simulation, a file of JSON lines, or nanoBragg's ``truth.json``.

    The last is one JSON object whose ``images`` list has, for image number `i` of the only file, ``U``, ``cell``,
    ``sg``, ``wavelength`` and ``N``; a, b, c are the columns of U times the PDB's orthogonalization matrix.

    Raises
    ------
    InputError
        Missing, damaged, or without truth.
    """
    if path.is_dir():
        files = read_manifest(path).files(path, "truth") if (path / MANIFEST_NAME).is_file() else []
        if not files:
            raise InputError("no truth in this folder", where=path, hint="give the folder of a simulate step")
        return Truth(shot for file in files for shot in _read_lines(file))
    if path.suffix == ".json":
        return Truth(_read_images(read_json(path), path))
    return Truth(_read_lines(path))


def _read_lines(path: Path) -> list[TrueShot]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path) from error
    shots = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            shots.append(TrueShot.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"line {number} is not a truth record: {error!r}", where=path) from error
    return shots


def _read_images(data: Any, path: Path) -> list[TrueShot]:
    try:
        shots = []
        for entry in data["images"]:
            columns = np.array(entry["U"]) @ orthogonalization(entry["cell"])
            crystal = Crystal(np.ascontiguousarray(columns.T), str(space_group(entry["sg"]).hall))
            shots.append(TrueShot("", entry["i"], entry["i"], entry["wavelength"], crystal))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a list of true images: {error!r}", where=path) from error
    return shots


def write_true_amplitudes(
    path: Path, hkl: AnyArray, amplitude: FloatArray, cell: CellParameters, group: gemmi.SpaceGroup, *, anomalous: bool
) -> None:
    """Write amplitudes as MTZ.

    Parameters
    ----------
    path
        The file.
    hkl, amplitude
        Shape (n, 3) and (n,), electrons; with `anomalous`, the second half holds the Friedel mates of the first.
    cell, group
        The crystal's.
    anomalous
        Write ``F(+) F(-)`` instead of ``F``.
    """
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = "True structure factors of a simulation"
    mtz.spacegroup = group
    mtz.set_cell_for_all(gemmi.UnitCell(*cell))
    mtz.add_dataset("truth")
    for label in ("F(+)", "F(-)") if anomalous else ("F",):
        mtz.add_column(label, "G" if anomalous else "F")
    values = np.split(amplitude, 2) if anomalous else [amplitude]
    mtz.set_data(np.column_stack([hkl[: len(values[0])], *values]).astype(np.float32))
    mtz.sort()
    with atomic_write(path) as stream:
        stream.write(mtz.write_to_bytes())
