"""Detectors in ``.expt`` files: panels placed by a hierarchy of frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from exafel.arrays import FloatArray
from exafel.io.geometry import Detector, Panel

Json = dict[str, Any]

_NO_PANEL: Json = {
    "raw_image_offset": [0, 0],
    "image_size": [0, 0],
    "pixel_size": [0.0, 0.0],
    "trusted_range": [0.0, 0.0],
    "thickness": 0.0,
    "material": "",
    "mu": 0.0,
    "identifier": "",
    "mask": [],
    "gain": 1.0,
    "pedestal": 0.0,
    "px_mm_strategy": {"type": "SimplePxMmStrategy"},
}


def _frame(item: Json) -> FloatArray:
    """Homogeneous matrix from the frame of a panel or group to that of its parent, shape (4, 4)."""
    fast, slow, origin = (
        np.array(item[key], dtype=np.float64).reshape(3) for key in ("fast_axis", "slow_axis", "origin")
    )
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([fast, slow, np.cross(fast, slow), origin])
    return matrix


def detector_from_json(item: Json) -> Detector:
    """Detector with its panels in the laboratory frame.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        Something is missing or is not what it should be.
    """
    hierarchy = item.get("hierarchy")
    placed: dict[int, FloatArray] = {}
    if hierarchy is not None:
        _walk(hierarchy, np.eye(4), placed)
    panels = [
        _panel_from_json(panel, placed.get(number, np.eye(4)) @ _frame(panel))
        for number, panel in enumerate(item["panels"])
    ]
    if not panels:
        raise ValueError("a detector has no panels")
    return Detector(tuple(panels), hierarchy if hierarchy and _has_groups(hierarchy) else None)


def _has_groups(node: Json) -> bool:
    """Whether a hierarchy is more than one root, in the laboratory frame, above all panels."""
    flat = all("panel" in child for child in node.get("children", []))
    return not (flat and np.array_equal(_frame(node), np.eye(4)))


def _walk(node: Json, above: FloatArray, placed: dict[int, FloatArray]) -> None:
    """Collect, for every panel's number, the matrix of the group that it hangs from."""
    own = above @ _frame(node)
    for child in node.get("children", []):
        if "panel" in child:
            placed[int(child["panel"])] = own
        else:
            _walk(child, own, placed)


def _panel_from_json(item: Json, frame: FloatArray) -> Panel:
    low, high = (float(value) for value in item["trusted_range"])
    fast, slow = (int(value) for value in item["image_size"])
    width, height = (float(value) for value in item["pixel_size"])
    if min(fast, slow) < 1 or not min(width, height) > 0:
        raise ValueError(f"a panel has {fast} x {slow} pixels of {width} x {height} mm")
    strategy = item.get("px_mm_strategy", {}).get("type", "SimplePxMmStrategy")
    return Panel(
        name=str(item["name"]),
        origin_mm=frame[:3, 3],
        fast_axis=frame[:3, 0],
        slow_axis=frame[:3, 1],
        pixel_size_mm=(width, height),
        image_size=(fast, slow),
        trusted_range=(low, high),
        thickness_mm=float(item.get("thickness", 0.0)),
        mu_per_mm=float(item.get("mu", 0.0)),
        material=str(item.get("material", "")),
        parallax=strategy == "ParallaxCorrectedPxMmStrategy" and float(item.get("mu", 0.0)) > 0,
        gain=float(item.get("gain", 1.0)),
        pedestal=float(item.get("pedestal", 0.0)),
        mask_rectangles=tuple(_rectangle(values) for values in item.get("mask", [])),
        kind=str(item.get("type", "")),
        identifier=str(item.get("identifier", "")),
    )


def _rectangle(values: Any) -> tuple[int, int, int, int]:
    fast0, slow0, fast1, slow1 = (int(value) for value in values)
    return fast0, slow0, fast1, slow1


def detector_to_json(detector: Detector) -> Json:
    """JSON of a detector; with its hierarchy of groups where it came with one, else below one root."""
    root = detector.hierarchy or {
        "name": "",
        "type": "",
        "fast_axis": [1.0, 0.0, 0.0],
        "slow_axis": [0.0, 1.0, 0.0],
        "origin": [0.0, 0.0, 0.0],
        **_NO_PANEL,
        "children": [{"panel": number} for number in range(len(detector))],
    }
    placed: dict[int, FloatArray] = {}
    _walk(root, np.eye(4), placed)
    panels = [_panel_to_json(panel, placed.get(number, np.eye(4))) for number, panel in enumerate(detector.panels)]
    return {"panels": panels, "hierarchy": root}


def _panel_to_json(panel: Panel, above: FloatArray) -> Json:
    turn = np.linalg.inv(above[:3, :3])
    low, high = panel.trusted_range
    return {
        "name": panel.name,
        "type": panel.kind,
        "fast_axis": (turn @ panel.fast_axis).tolist(),
        "slow_axis": (turn @ panel.slow_axis).tolist(),
        "origin": (turn @ (panel.origin_mm - above[:3, 3])).tolist(),
        "raw_image_offset": [0, 0],
        "image_size": list(panel.image_size),
        "pixel_size": list(panel.pixel_size_mm),
        "trusted_range": [low - 0.5 if low == round(low) else low, high + 0.5 if high == round(high) else high],
        "thickness": panel.thickness_mm,
        "material": panel.material,
        "mu": panel.mu_per_mm,
        "identifier": panel.identifier,
        "mask": [list(rectangle) for rectangle in panel.mask_rectangles],
        "gain": panel.gain,
        "pedestal": panel.pedestal,
        "px_mm_strategy": {"type": "ParallaxCorrectedPxMmStrategy" if panel.parallax else "SimplePxMmStrategy"},
    }
