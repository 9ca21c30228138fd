"""Geometry from full imgCIF headers: axes that depend on each other, arrays cut into sections.

Categories and their meaning: International Tables for Crystallography G, chapters 3.7 and 4.6. The laboratory frame
of imgCIF is dxtbx's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import gemmi
import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import InputError
from exafel.io.attenuation import mu_per_mm
from exafel.io.geometry import Beam, Detector, Panel, rotation_matrix

CSPAD_THICKNESS_MM = 0.5
"""Sensor of the CSPAD, silicon: Hart et al., Proc. SPIE 8504 (2012) 85040C. Its files do not say it."""

Row = dict[str, str]
Place = tuple[str, int, slice, slice]


@dataclass(frozen=True)
class _Axis:
    rotation: bool
    depends_on: str
    vector: FloatArray
    offset: FloatArray
    setting: float

    def matrix(self) -> FloatArray:
        """Homogeneous matrix of the axis at its setting, shape (4, 4), mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = self.offset
        if self.rotation:
            matrix[:3, :3] = rotation_matrix(self.vector, np.radians(self.setting))
        else:
            matrix[:3, 3] += self.vector * self.setting
        return matrix


def imgcif_geometry(block: gemmi.cif.Block) -> tuple[Detector, Beam, tuple[Place, ...], tuple[str, ...]]:
    """Detector, beam, where each panel's pixels are, and the arrays in the order of the file.

    Raises
    ------
    InputError
        A category is missing.
    KeyError, ValueError
        An item is missing or is not a number.
    """
    beam = _beam(block)
    axes = _axes(block)
    sections = _sections(block)
    directions = {row["axis_set_id"]: row for row in _table(block, "array_structure_list_axis")}
    limits = {row["array_id"]: row for row in _table(block, "array_intensities", required=False)}
    cspad = "CS PAD" in _value(block, "_diffrn_detector.type", "")
    mu = mu_per_mm("Si", beam.wavelength_angstrom) if cspad else 0.0
    panels, places = [], []
    for name, section in sections.items():
        fast, slow = (directions[section.axis_sets[i]] for i in (0, 1))
        origin, fast_axis, slow_axis = _frame(axes, fast["axis_id"], slow["axis_id"])
        # As dxtbx does, the displacements are taken as those of the outer corner of the first pixel.
        origin = origin + fast_axis * _float(fast.get("displacement"), 0.0)
        origin = origin + slow_axis * _float(slow.get("displacement"), 0.0)
        limit = limits.get(section.array_id, {})
        panels.append(
            Panel(
                name=name,
                origin_mm=origin,
                fast_axis=fast_axis,
                slow_axis=slow_axis,
                pixel_size_mm=(abs(float(fast["displacement_increment"])), abs(float(slow["displacement_increment"]))),
                image_size=(section.fast.stop - section.fast.start, section.slow.stop - section.slow.start),
                trusted_range=_trusted(limit),
                thickness_mm=CSPAD_THICKNESS_MM if cspad else 0.0,
                material="Si" if cspad else "",
                mu_per_mm=mu,
                parallax=cspad,
                gain=_float(limit.get("gain"), 1.0),
            )
        )
        places.append((section.array_id, section.layer, section.slow, section.fast))
    arrays = tuple(dict.fromkeys(row["array_id"] for row in _table(block, "array_structure_list")))
    return Detector(tuple(panels)), beam, tuple(places), _array_order(block, arrays)


def _value(block: gemmi.cif.Block, tag: str, default: str) -> str:
    found = block.find_value(tag)
    return gemmi.cif.as_string(found) if found else default


def _float(text: str | None, default: float) -> float:
    return float(text) if text and text not in {".", "?"} else default


def _table(block: gemmi.cif.Block, category: str, *, required: bool = True) -> list[Row]:
    table = block.find_mmcif_category(f"_{category}.")
    if len(table) == 0:
        if required:
            raise InputError(f"the header has no category {category}")
        return []
    names = [str(tag).partition(".")[2] for tag in table.tags]
    return [dict(zip(names, map(_text, row), strict=True)) for row in table]


def _text(raw: str) -> str:
    return raw if raw in {".", "?"} else gemmi.cif.as_string(raw)


def _beam(block: gemmi.cif.Block) -> Beam:
    wavelength = float(_value(block, "_diffrn_radiation_wavelength.wavelength", "nan"))
    if not (np.isfinite(wavelength) and wavelength > 0):
        raise InputError("the header does not say the wavelength")
    ratio = block.find_value("_diffrn_radiation.polarizn_source_ratio")
    if not ratio or ratio in {".", "?"}:
        return Beam(wavelength)
    angle = np.radians(_float(_value(block, "_diffrn_radiation.polarizn_source_norm", "0"), 0.0))
    normal = np.array([np.sin(angle), np.cos(angle), 0.0])
    return Beam(wavelength, polarization_fraction=0.5 * (1 + float(ratio)), polarization_normal=normal)


def _axes(block: gemmi.cif.Block) -> dict[str, _Axis]:
    settings = {row["axis_id"]: row for row in _table(block, "diffrn_scan_axis", required=False)}
    frame = {row["axis_id"]: row for row in _table(block, "diffrn_scan_frame_axis", required=False)}
    axes = {}
    for row in _table(block, "axis"):
        rotation = row["type"] == "rotation"
        name, kind = row["id"], "angle" if rotation else "displacement"
        setting = _float(settings.get(name, {}).get(f"{kind}_start"), 0.0)
        setting = _float(frame.get(name, {}).get(kind), setting)
        vector = np.array([_float(row.get(f"vector[{i}]"), 0.0) for i in (1, 2, 3)])
        offset = np.array([_float(row.get(f"offset[{i}]"), 0.0) for i in (1, 2, 3)])
        length = np.linalg.norm(vector)
        axes[name] = _Axis(rotation, row["depends_on"], vector / (length if length > 0 else 1), offset, setting)
    return axes


def _frame(axes: dict[str, _Axis], fast: str, slow: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Origin (mm) and unit directions of the axes `fast` and `slow`, from their chains to the laboratory."""
    last = slow if axes[slow].depends_on == fast else fast
    origin = _chain(axes, last)[:3, 3]
    fast_axis, slow_axis = (_chain(axes, axes[name].depends_on)[:3, :3] @ axes[name].vector for name in (fast, slow))
    return origin, fast_axis, slow_axis


def _chain(axes: dict[str, _Axis], name: str) -> FloatArray:
    matrix = np.eye(4)
    for _ in range(len(axes) + 1):
        if name == ".":
            return matrix
        matrix = axes[name].matrix() @ matrix
        name = axes[name].depends_on
    raise InputError("the axes depend on each other in a circle")


@dataclass
class _Section:
    array_id: str
    axis_sets: dict[int, str]
    layer: int = 0
    slow: slice = field(default_factory=lambda: slice(0, 0))
    fast: slice = field(default_factory=lambda: slice(0, 0))


def _sections(block: gemmi.cif.Block) -> dict[str, _Section]:
    """Panels by name in the order of ``array_structure_list``: its sections, or whole arrays where it has none."""
    ranges: dict[str, dict[int, tuple[int, int]]] = {}
    for row in _table(block, "array_structure_list_section", required=False):
        ranges.setdefault(row["id"], {})[int(row["index"])] = (int(row["start"]) - 1, int(row["end"]))
    sections: dict[str, _Section] = {}
    for row in _table(block, "array_structure_list"):
        name = row.get("array_section_id", row["array_id"] if not ranges else ".")
        if name in {".", "?"}:
            continue
        array_id = row.get("array_id", row.get("array_section", "."))
        section = sections.setdefault(name, _Section(array_id, {}))
        axis = int(row["precedence"]) - 1
        section.axis_sets[axis] = row["axis_set_id"]
        start, end = ranges.get(name, {}).get(int(row["index"]), (0, int(row["dimension"])))
        if axis == 0:
            section.fast = slice(start, end)
        elif axis == 1:
            section.slow = slice(start, end)
        section.layer = ranges.get(name, {}).get(3, (0, 1))[0]
    if not sections:
        raise InputError("the header describes no panel")
    return sections


def _array_order(block: gemmi.cif.Block, arrays: tuple[str, ...]) -> tuple[str, ...]:
    """Arrays in the order of their binary sections, by their number in ``diffrn_data_frame`` where it is there."""
    numbers = {
        row["array_id"]: int(row["binary_id"])
        for row in _table(block, "diffrn_data_frame", required=False)
        if row.get("binary_id", ".").isdigit()
    }
    return tuple(sorted(arrays, key=lambda name: numbers.get(name, 0)))


def _trusted(limit: Row) -> tuple[float, float]:
    """Trusted values: above the value of undefined pixels and below the overload, which is saturated."""
    low = _float(limit.get("undefined_value"), -float(0x7FFFFFFF)) + 1
    high = _float(limit.get("overload"), float(0x7FFFFFFF) + 1) - 1
    return low, high
