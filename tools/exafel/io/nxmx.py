"""Frames from NXmx HDF5 files: the format of LCLS, of simulations and of most detectors at synchrotrons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (its import registers bitshuffle, zstd, blosc and others with HDF5)
import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.errors import FrameError, InputError
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.io.nexus_beam import BeamReader
from exafel.io.nexus_geometry import (
    ChainReader,
    Module,
    Sensor,
    build_detector,
    children_of_class,
    read_module,
    read_sensor,
    text_of,
)

_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError)
"""What h5py raises on files that are damaged in one way or another."""


@dataclass(frozen=True, eq=False)
class _Placed:
    """A module, and the stack of data sets (joined along the first axis) in which its pixels are."""

    module: Module
    sensor: Sensor
    data: tuple[str, ...]
    mask: str | None


class NXmxSource:
    """Frames of one NXmx file, virtual data sets and external links included.

    Parameters
    ----------
    path
        The master file.

    Raises
    ------
    InputError
        The file is missing, truncated, not HDF5 or not NXmx.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: h5py.File | None = None
        self._detectors: dict[int, Detector] = {}
        self._masks: list[BoolArray] | None = None
        with _opened(path) as handle:
            entry = _find_entry(handle, path)
            instrument = _only(entry, "NXinstrument", path)
            self._modules = _place_modules(entry, instrument, path)
            self._lengths = [int(handle[name].shape[0]) for name in self._modules[0].data]
            self._beam = BeamReader(entry, instrument)
        self._moves = any(item.module.moves for item in self._modules)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_masks": None}

    def __len__(self) -> int:
        return sum(self._lengths)

    def detector(self, index: int) -> Detector:
        """Return the detector; one object for all frames unless an axis of the geometry has a value a frame.

        The absorption coefficient is that at the first frame's wavelength, as in dxtbx.
        """
        key = self._checked(index) if self._moves else 0
        if key not in self._detectors:
            wavelength = self._beam.wavelength(0)
            modules = [(item.module, item.sensor) for item in self._modules]
            self._detectors[key] = build_detector(modules, wavelength, key)
        return self._detectors[key]

    def beam(self, index: int) -> Beam:
        """Return the beam of frame `index`, with its spectrum where the file has one."""
        self._checked(index)
        try:
            return self._beam.read(self._file(), index)
        except _HDF5_ERRORS as error:
            raise FrameError(f"cannot read the beam: {_short(error)}", where=self._where(index)) from error

    def frame(self, index: int) -> list[AnyArray]:
        """Read the pixels of frame `index`: one array of shape (slow, fast) a panel.

        Raises
        ------
        FrameError
            The frame's chunk is damaged or missing.
        """
        part, row = self._locate(self._checked(index))
        try:
            handle = self._file()
            wanted = [(item.data[part], item.module) for item in self._modules]
            frames = {name: handle[name][row] for name in {name for name, _ in wanted}}
        except _HDF5_ERRORS as error:
            raise FrameError(f"cannot read the frame: {_short(error)}", where=self._where(index)) from error
        return [_cut(frames[name], module) for name, module in wanted]

    def mask(self, index: int) -> list[BoolArray] | None:
        """Return the file's ``pixel_mask``, True where good, one array a panel; None where it has none."""
        self._checked(index)
        if all(item.mask is None for item in self._modules):
            return None
        if self._masks is None:
            try:
                handle = self._file()
                self._masks = [_read_mask(handle, item) for item in self._modules]
            except _HDF5_ERRORS as error:
                raise InputError(f"cannot read the pixel mask: {_short(error)}", where=self.path) from error
        return self._masks

    def image(self, index: int) -> ImageRef:
        """Return the file and the number of the frame in it."""
        return ImageRef(self.path, self._checked(index))

    def _file(self) -> h5py.File:
        if self._handle is None:
            self._handle = h5py.File(self.path, "r", locking=False)
        return self._handle

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return index

    def _locate(self, index: int) -> tuple[int, int]:
        for part, length in enumerate(self._lengths):
            if index < length:
                return part, index
            index -= length
        raise IndexError(index)

    def _where(self, index: int) -> str:
        return f"{self.path}[{index}]"


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for its header; whatever HDF5 finds wrong becomes an `InputError` of one line."""
    if not path.is_file():
        raise InputError("no such file", where=path)
    try:
        with h5py.File(path, "r", locking=False) as handle:
            yield handle
    except InputError:
        raise
    except _HDF5_ERRORS as error:
        raise InputError(f"damaged or not HDF5: {_short(error)}", where=path) from error


def _short(error: BaseException) -> str:
    """HDF5's message without its line breaks and at a readable length."""
    text = " ".join(str(error).strip("'\"").split())
    return text if len(text) <= 160 else text[:157] + "..."


def _find_entry(handle: h5py.File, path: Path) -> h5py.Group:
    entries = children_of_class(handle, "NXentry")
    for entry in entries:
        if "definition" in entry and text_of(entry["definition"][()]) == "NXmx":
            return entry
    what = "not an NXmx file: no NXentry" + (" with the definition NXmx" if entries else "")
    raise InputError(what, where=path)


def _only(group: h5py.Group, nx_class: str, path: Path) -> h5py.Group:
    found = children_of_class(group, nx_class)
    if not found:
        raise InputError(f"no {nx_class} in {group.name}", where=path)
    return found[0]


def _place_modules(entry: h5py.Group, instrument: h5py.Group, path: Path) -> list[_Placed]:
    """Find every detector module and the data sets that hold its pixels."""
    images = _image_stacks(_only(entry, "NXdata", path), path)
    chains = ChainReader(entry.file)
    placed = []
    for detector in children_of_class(instrument, "NXdetector"):
        mask = f"{detector.name}/pixel_mask" if isinstance(detector.get("pixel_mask"), h5py.Dataset) else None
        sensors: dict[tuple[str, ...], Sensor] = {}
        for group in _leaf_modules(detector):
            module = read_module(group, chains)
            names = _stack_of(images, module, detector)
            if names not in sensors:
                sensors[names] = read_sensor(detector, entry.file[names[0]].dtype)
            placed.append(_Placed(module, sensors[names], names, mask))
    shapes = {name: entry.file[name].shape for item in placed for name in item.data}
    for item in placed:
        _check_fits(item, shapes, path)
    if not placed:
        raise InputError("no NXdetector_module", where=path, hint="frames without a geometry cannot be used")
    return placed


def _leaf_modules(detector: h5py.Group) -> list[h5py.Group]:
    """Return the modules of a detector; of nested ones the innermost."""
    outer = children_of_class(detector, "NXdetector_module")
    return [leaf for group in outer for leaf in (children_of_class(group, "NXdetector_module") or [group])]


def _image_stacks(group: h5py.Group, path: Path) -> dict[str, tuple[str, ...]]:
    """Return stacks of images by name: the signal, or each data set of images, or Dectris' ``data_000001``..."""
    signal = text_of(group.attrs.get("signal", ""))
    names = [name for name in sorted(group) if isinstance(group.get(name), h5py.Dataset) and group[name].ndim >= 3]
    parts = [name for name in names if name.startswith("data_") and name[5:].isdigit()]
    if signal in names and signal not in parts:
        return {signal: (f"{group.name}/{signal}",)}
    if "data" not in names and parts:
        return {"data": tuple(f"{group.name}/{name}" for name in parts)}
    if not names:
        raise InputError(f"no images in {group.name}", where=path, hint="are the files that it links to there?")
    return {name: (f"{group.name}/{name}",) for name in names}


def _stack_of(images: dict[str, tuple[str, ...]], module: Module, detector: h5py.Group) -> tuple[str, ...]:
    """Find the data of a module: a set of its own name, of its detector's name, or the one that all share."""
    detector_name = str(detector.name).rsplit("/", 1)[-1]
    for name in (module.group_name, detector_name, f"{detector_name}_data", "data"):
        if name in images:
            return images[name]
    inside = [name for name in images if name in detector]
    return images[inside[0]] if inside else next(iter(images.values()))


def _check_fits(placed: _Placed, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    module = placed.module
    ends = [start + size for start, size in zip(module.data_origin, module.data_size, strict=True)]
    for name in placed.data:
        shape = shapes[name][1:]
        if len(ends) != len(shape) or any(end > length for end, length in zip(ends, shape, strict=True)):
            raise InputError(f"module {module.name} reaches beyond frames of shape {shape} in {name}", where=path)


def _cut(frame: AnyArray, module: Module) -> AnyArray:
    cut: AnyArray = frame[module.slices()]
    return np.ascontiguousarray(cut.reshape(cut.shape[-2:]))


def _read_mask(handle: h5py.File, placed: _Placed) -> BoolArray:
    """Good pixels of a module; a mask smaller than its detector's frames is a module's own."""
    shape = placed.module.data_size[-2:]
    if placed.mask is None:
        return np.ones(shape, dtype=np.bool_)
    stored = handle[placed.mask][()]
    if stored.ndim == len(placed.module.data_size):
        stored = stored[placed.module.slices()]
    return np.ascontiguousarray(stored.reshape(shape) == 0)
