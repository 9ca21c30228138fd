"""Shots of single particles in HDF5, by the names that Spinifel uses, and from any other source of frames.

``intensities`` (n, panels, rows, columns) in photons; ``pixel_position_reciprocal`` (3, panels, rows, columns) in 1/m;
``pixel_index_map`` (panels, rows, columns, 2); optional ``pixel_mask`` (0 is good), ``orientations`` (n, 4) or
(n, 1, 4), ``conformations``, ``fluences``, ``n_particles``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from exafel.errors import FrameError, InputError
from exafel.io.frames import open_frames
from exafel.io.source import FrameSource

_PER_METRE = 1e-10  # 1/m in 1/angstrom


@dataclass(frozen=True, eq=False)
class SpiGeometry:
    """What is the same for all shots.

    Parameters
    ----------
    s
        Scattering vectors of pixels, 1/angstrom, shape (3, panels, rows, columns).
    good
        Pixels that can be used, shape (panels, rows, columns).
    index_map
        Row and column of every pixel in one picture, shape (panels, rows, columns, 2).
    """

    s: FloatArray
    good: BoolArray
    index_map: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Panels, rows, columns."""
        return self.good.shape

    def picture(self, values: AnyArray) -> Float32Array:
        """Put pixels' values, shape (pixels,), where they are in one picture; NaN elsewhere."""
        rows, columns = self.index_map.reshape(-1, 2).max(axis=0) + 1
        image = np.full((rows, columns), np.nan, dtype=np.float32)
        place = self.index_map.reshape(-1, 2)
        image[place[:, 0], place[:, 1]] = np.where(self.good.ravel(), values, np.nan)
        return image


class SpiShots:
    """Shots of several files with one geometry. It can be pickled: ranks open the files anew.

    Parameters
    ----------
    paths
        Files with Spinifel's names, or image files and folders that `exafel.io.frames` knows.

    Raises
    ------
    InputError
        A file is missing, has no shots, or another geometry than the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        parts: list[_SpiFile | _Frames] = []
        for path in paths:
            parts.extend(_SpiFile(file) for file in _spi_files(path))
        if not parts:
            parts = [_Frames(open_frames(paths))]
        self._parts = parts
        self.geometry = parts[0].geometry
        for part in parts[1:]:
            if part.geometry.shape != self.geometry.shape or not np.allclose(
                part.geometry.s, self.geometry.s, rtol=1e-6
            ):
                raise InputError("has another geometry than the first file", where=part.name)
        self._ends = np.cumsum([len(part) for part in parts])
        if not len(self):
            raise InputError("no shots", where=paths[0])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: Sequence[int] | AnyArray) -> Float32Array:
        """Photons of some shots, shape (n, panels · rows · columns); NaN where a shot cannot be read."""
        result = np.full((len(indices), int(np.prod(self.geometry.shape))), np.nan, dtype=np.float32)
        places = [self._locate(int(index)) for index in indices]
        for part in self._parts:
            rows = [row for row, (own, _) in enumerate(places) if own is part]
            if rows:
                result[rows] = part.frames([places[row][1] for row in rows])
        return result

    def place(self, index: int) -> tuple[str, int]:
        """File of a shot, and its number in it."""
        part, local = self._locate(index)
        return part.name, local

    def truth(self, name: str) -> AnyArray | None:
        """A value for every shot, such as ``orientations``; None where a file has none."""
        values = [part.truth(name) for part in self._parts]
        known = [value for value in values if value is not None]
        return np.concatenate(known) if len(known) == len(values) else None

    def _locate(self, index: int) -> tuple[_SpiFile | _Frames, int]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[which], index - (int(self._ends[which - 1]) if which else 0)


def _spi_files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    files = sorted(path.glob("*.h5")) if path.is_dir() else [path]
    return [file for file in files if h5py.is_hdf5(file) and _has_names(file)]


def _has_names(file: Path) -> bool:
    with h5py.File(file, "r") as stream:
        return "intensities" in stream and "pixel_position_reciprocal" in stream


@dataclass(eq=False)
class _SpiFile:
    """One file with Spinifel's names; the file is opened for every read and closed again."""

    path: Path
    name: str = field(init=False)
    geometry: SpiGeometry = field(init=False)
    _n: int = field(init=False)

    def __post_init__(self) -> None:
        self.name = str(self.path)
        with h5py.File(self.path, "r") as stream:
            shape = stream["intensities"].shape
            if len(shape) != 4:
                raise InputError(f"intensities of shape {shape}, not (n, panels, rows, columns)", where=self.path)
            self._n = shape[0]
            s = stream["pixel_position_reciprocal"][()].astype(np.float64)
            s = np.moveaxis(s, -1, 0) if s.shape[0] != 3 and s.shape[-1] == 3 else s
            if s.shape != (3, *shape[1:]):
                raise InputError(f"pixel_position_reciprocal of shape {s.shape} for images {shape}", where=self.path)
            mask = stream["pixel_mask"][()] == 0 if "pixel_mask" in stream else np.ones(shape[1:], dtype=bool)
            index_map = stream["pixel_index_map"][()] if "pixel_index_map" in stream else _stacked(shape[1:])
        self.geometry = SpiGeometry(s * _PER_METRE, np.asarray(mask), np.asarray(index_map, dtype=np.int64))

    def __len__(self) -> int:
        return self._n

    def frames(self, indices: Sequence[int]) -> Float32Array:
        result = np.full((len(indices), int(np.prod(self.geometry.shape))), np.nan, dtype=np.float32)
        with h5py.File(self.path, "r") as stream:
            for row, index in enumerate(indices):
                with suppress(OSError):  # a damaged chunk costs its shot alone
                    result[row] = stream["intensities"][index].ravel()
        return result

    def truth(self, name: str) -> AnyArray | None:
        with h5py.File(self.path, "r") as stream:
            if name not in stream:
                return None
            values = np.asarray(stream[name][()])
        return values.reshape(len(values), 4) if name == "orientations" else values


class _Frames:
    """Frames of any other kind, with the scattering vectors of their detector and beam."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.name = source.image(0).label if len(source) else ""
        detector, beam = source.detector(0), source.beam(0)
        shapes = {panel.shape for panel in detector.panels}
        if len(shapes) != 1:
            raise InputError("panels differ in size", where=self.name)
        s0 = np.asarray(beam.s0)
        vectors = []
        for panel in detector.panels:
            rows, columns = panel.shape
            x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
            lab = panel.pixel_to_lab(np.column_stack([x.ravel(), y.ravel()])).reshape(rows, columns, 3)
            s1 = lab / np.linalg.norm(lab, axis=-1, keepdims=True) * np.linalg.norm(s0)
            vectors.append(np.moveaxis(s1 - s0, -1, 0))
        s = np.stack(vectors, axis=1)
        mask = source.mask(0)
        good = np.ones(s.shape[1:], dtype=bool) if mask is None else np.array(mask)
        self.geometry = SpiGeometry(s, good, _stacked(s.shape[1:]))

    def __len__(self) -> int:
        return len(self._source)

    def frames(self, indices: Sequence[int]) -> Float32Array:
        result = np.full((len(indices), int(np.prod(self.geometry.shape))), np.nan, dtype=np.float32)
        for row, index in enumerate(indices):
            with suppress(FrameError):
                panels = self._source.frame(index)
                result[row] = np.concatenate([np.asarray(panel, dtype=np.float32).ravel() for panel in panels])
        return result

    def truth(self, name: str) -> AnyArray | None:  # noqa: ARG002 - the other kind's signature
        return None


def _stacked(shape: Sequence[int]) -> IntArray:
    """Panels one below the other."""
    panel, row, column = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return np.stack([panel * shape[1] + row, column], axis=-1)


class SpiWriter:
    """Writes shots and their truth; the file is there, whole, when the context ends well.

    Parameters
    ----------
    path
        File to be written.
    geometry
        Of all shots.
    n
        Number of shots.
    """

    def __init__(self, path: Path, geometry: SpiGeometry, n: int) -> None:
        self._path, self._part = path, path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = h5py.File(self._part, "w")
        self._row = 0
        shape = geometry.shape
        self._stream.create_dataset(
            "intensities", (n, *shape), np.float32, chunks=(1, *shape), compression="gzip", shuffle=True
        )
        self._stream["pixel_position_reciprocal"] = geometry.s / _PER_METRE
        self._stream["pixel_index_map"] = geometry.index_map
        self._stream["pixel_mask"] = (~geometry.good).astype(np.uint8)

    def append(self, images: Float32Array) -> None:
        """Write the next shots, shape (n, panels, rows, columns)."""
        self._stream["intensities"][self._row : self._row + len(images)] = images
        self._row += len(images)

    def write_truth(self, truth: Mapping[str, Any]) -> None:
        """Write one value a shot by name."""
        for name, values in truth.items():
            self._stream[name] = values

    def __enter__(self) -> SpiWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)
