"""Detector geometry from NeXus: chains of NXtransformations, modules, sensors.

NeXus describes positions in the McStas frame (z along the beam, y up); dxtbx's laboratory frame has x and z turned
round. See the NeXus manual, "Coordinate systems", and the base class NXtransformations.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import InputError
from exafel.io.attenuation import mu_per_mm, sensor_material
from exafel.io.geometry import Detector, Panel, rotation_matrix

MCSTAS_TO_LAB = np.diag([-1.0, 1.0, -1.0])

_MM = {
    "m": 1e3, "meter": 1e3, "metre": 1e3, "meters": 1e3, "cm": 10.0, "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
    "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "nm": 1e-6,
    "angstrom": 1e-7, "angstroms": 1e-7, "a": 1e-7, "pm": 1e-9,
}  # fmt: skip
_WAYS = ("fast", "slow")
_RADIAN = {"deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "°": np.pi / 180} | dict.fromkeys(
    ("rad", "radian", "radians"), 1.0
)


def text_of(value: Any) -> str:
    """Return a string that a file may hold as bytes, as a string or as an array of one of them."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def millimetres(units: Any, where: str) -> float:
    """Return how many millimetres one of these length units is."""
    return _unit(units, _MM, where)


def _unit(units: Any, table: dict[str, float], where: str) -> float:
    name = text_of(units).strip()
    factor = table.get(name, table.get(name.lower()))
    if factor is None:
        raise InputError(f"unknown units '{name}'", where=where)
    return factor


def children_of_class(group: h5py.Group, nx_class: str) -> list[h5py.Group]:
    """Return the groups right under `group` with this NX_class, by name; links that lead nowhere are passed over."""
    found = (group.get(name) for name in group)
    return [item for item in found if isinstance(item, h5py.Group) and text_of(item.attrs.get("NX_class")) == nx_class]


@dataclass(frozen=True, eq=False)
class Transformation:
    """One axis of a chain: a turn or a shift along `vector` by `values` (one, or one a frame), after `offset_mm`."""

    path: str
    rotation: bool
    vector: FloatArray
    values: FloatArray
    offset_mm: FloatArray

    def matrix(self, index: int) -> FloatArray:
        """Homogeneous matrix for frame `index`, shape (4, 4), mm, McStas frame."""
        value = float(self.values[min(index, len(self.values) - 1)])
        matrix = np.eye(4)
        matrix[:3, 3] = self.offset_mm
        if self.rotation:
            matrix[:3, :3] = rotation_matrix(self.vector, value)
        else:
            matrix[:3, 3] += self.vector * value
        return matrix


def read_transformation(dataset: h5py.Dataset, path: str) -> Transformation:
    """Read one axis.

    Raises
    ------
    InputError
        An attribute that NXtransformations requires is missing, or its units are unknown.
    """
    attributes = dataset.attrs
    if "vector" not in attributes:
        raise InputError("transformation without a vector", where=path)
    vector = np.asarray(attributes["vector"], dtype=np.float64).reshape(3)
    length = np.linalg.norm(vector)
    if not (length > 0 and np.isfinite(length)):
        raise InputError("transformation with a vector of no length", where=path)
    rotation = text_of(attributes.get("transformation_type", "translation")) == "rotation"
    units = attributes.get("units", "deg" if rotation else "mm")
    offset = np.asarray(attributes.get("offset", np.zeros(3)), dtype=np.float64).reshape(3)
    if np.any(offset):
        offset = offset * _unit(attributes.get("offset_units", "mm" if rotation else units), _MM, path)
    values = np.asarray(dataset[()], dtype=np.float64).reshape(-1) * _unit(units, _RADIAN if rotation else _MM, path)
    return Transformation(path, rotation, vector / length, values, offset)


class ChainReader:
    """Follows ``depends_on`` in one file, reading every axis once however many modules hang from it."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._known: dict[str, tuple[Transformation, str]] = {}

    def chain(self, path: str) -> tuple[Transformation, ...]:
        """Axes from `path` to the laboratory.

        Raises
        ------
        InputError
            The chain leads nowhere or in a circle.
        """
        found: list[Transformation] = []
        current = path
        while current != ".":
            if any(axis.path == current for axis in found):
                raise InputError(f"depends_on runs in a circle at {current}", where=self._file.filename)
            axis, current = self._axis(current)
            found.append(axis)
        return tuple(found)

    def _axis(self, path: str) -> tuple[Transformation, str]:
        if path not in self._known:
            dataset = self._file.get(path)
            if not isinstance(dataset, h5py.Dataset):
                raise InputError(f"the axis {path} is not there", where=self._file.filename)
            target = text_of(dataset.attrs.get("depends_on", ".")).strip() or "."
            parent = target if target == "." else posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            self._known[path] = read_transformation(dataset, path), parent
        return self._known[path]


@dataclass(frozen=True, eq=False)
class Module:
    """One NXdetector_module: where its pixels are in the data, and the axes that place it."""

    name: str
    group_name: str
    data_origin: tuple[int, ...]
    data_size: tuple[int, ...]
    fast: tuple[Transformation, ...]
    slow: tuple[Transformation, ...]

    @cached_property
    def moves(self) -> bool:
        """Whether an axis has a value a frame."""
        return any(len(axis.values) > 1 and np.ptp(axis.values) > 0 for axis in self.fast[1:] + self.slow[1:])

    def frame(self, index: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Origin (mm) and unit vectors along fast and slow in the laboratory, for frame `index`."""
        fast, slow = (_cumulative(axes[1:], index) for axes in (self.fast, self.slow))
        origin = (fast @ np.append(self.fast[0].offset_mm, 1.0))[:3]
        return (
            MCSTAS_TO_LAB @ origin,
            MCSTAS_TO_LAB @ fast[:3, :3] @ self.fast[0].vector,
            MCSTAS_TO_LAB @ slow[:3, :3] @ self.slow[0].vector,
        )

    def slices(self) -> tuple[slice, ...]:
        """Where the module's pixels are in one frame's array."""
        return tuple(slice(start, start + size) for start, size in zip(self.data_origin, self.data_size, strict=True))


def _cumulative(axes: tuple[Transformation, ...], index: int) -> FloatArray:
    matrix = np.eye(4)
    for axis in axes:
        matrix = axis.matrix(index) @ matrix
    return matrix


def read_module(group: h5py.Group, chains: ChainReader) -> Module:
    """Read an NXdetector_module.

    Raises
    ------
    InputError
        A field that NXdetector_module requires is missing.
    """
    path = str(group.name)
    missing = [
        name for name in ("data_origin", "data_size", *(f"{way}_pixel_direction" for way in _WAYS)) if name not in group
    ]
    if missing:
        raise InputError(f"no {missing[0]} in the detector module {path}", where=group.file.filename)
    origin, size = (tuple(int(x) for x in np.ravel(group[field][()])) for field in ("data_origin", "data_size"))
    if len(origin) != len(size) or len(size) < 2 or min(size) < 1 or min(origin) < 0:
        raise InputError(f"data_origin {origin} and data_size {size} of {path} do not fit", where=group.file.filename)
    fast, slow = (chains.chain(f"{path}/{way}_pixel_direction") for way in _WAYS)
    return Module(path, posixpath.basename(path), origin, size, fast, slow)


@dataclass(frozen=True)
class Sensor:
    """What all modules of an NXdetector share."""

    thickness_mm: float
    material: str
    trusted_range: tuple[float, float]
    gain: float


def read_sensor(group: h5py.Group, dtype: np.dtype[Any]) -> Sensor:
    """Read thickness, material and trusted range of an NXdetector whose data have type `dtype`.

    ``saturation_value`` and ``underload_value`` are the last good values. Where a file of unsigned integers has no
    saturation value, its two largest values mark bad pixels (as Dectris detectors write them).
    """
    where = f"{group.file.filename}:{group.name}"
    low, high = -float(0x7FFFFFFF), float(0x7FFFFFFF)
    if dtype.kind == "u":
        bits = int(_number(group, "bit_depth_readout", 8 * dtype.itemsize))
        high = float(2 ** min(bits, 8 * dtype.itemsize) - 3)
    thickness = group.get("sensor_thickness")
    thickness_mm = 0.0
    if isinstance(thickness, h5py.Dataset):
        thickness_mm = float(np.ravel(thickness[()])[0]) * millimetres(thickness.attrs.get("units", "m"), where)
    material = text_of(group["sensor_material"][()]) if "sensor_material" in group else ""
    return Sensor(
        thickness_mm,
        sensor_material(material),
        (_number(group, "underload_value", low), _number(group, "saturation_value", high)),
        1.0,
    )


def _number(group: h5py.Group, name: str, default: float) -> float:
    found = group.get(name)
    return float(np.ravel(found[()])[0]) if isinstance(found, h5py.Dataset) and found.size else default


def build_detector(modules: list[tuple[Module, Sensor]], wavelength_angstrom: float, index: int) -> Detector:
    """Panels of the modules for frame `index`, with the absorption coefficient at this wavelength."""
    panels = []
    for module, sensor in modules:
        origin, fast, slow = module.frame(index)
        parallax = sensor.thickness_mm > 0 and bool(sensor.material)
        panels.append(
            Panel(
                name=module.name,
                origin_mm=origin,
                fast_axis=fast,
                slow_axis=slow,
                pixel_size_mm=(abs(float(module.fast[0].values[0])), abs(float(module.slow[0].values[0]))),
                image_size=(module.data_size[-1], module.data_size[-2]),
                trusted_range=sensor.trusted_range,
                thickness_mm=sensor.thickness_mm,
                mu_per_mm=mu_per_mm(sensor.material, wavelength_angstrom) if parallax else 0.0,
                material=sensor.material,
                parallax=parallax,
                gain=sensor.gain,
            )
        )
    return Detector(tuple(panels) if len(panels) != 1 else (_facing_the_beam(panels[0]),))


def _facing_the_beam(panel: Panel) -> Panel:
    """Put a lone panel that stands upstream of the sample downstream: a sign that some writers get wrong.

    dxtbx corrects it in the same way, for a lone panel perpendicular to the beam.
    """
    if abs(panel.normal[2]) <= 0.99 or panel.origin_mm[2] <= 0:
        return panel
    return replace(panel, origin_mm=panel.origin_mm * [1.0, 1.0, -1.0])
