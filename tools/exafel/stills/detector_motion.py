"""Rigid motions of parts of a detector: which panels move together, and what that does to predicted positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.config.refine_detector import Level, RefineDetectorConfig
from exafel.errors import ConfigError
from exafel.io.geometry import Detector, Panel, rotation_matrix

N_MOTIONS = 6
"""Shifts along x, y, z (mm) and turns about them (rad), about the centre of the part."""

_SHIFT_X, _SHIFT_Y, _SHIFT_Z, _TURN_X, _TURN_Y, _TURN_Z = range(N_MOTIONS)


@dataclass(frozen=True, eq=False)
class Parts:
    """Rigid parts of a detector.

    Parameters
    ----------
    of_panel
        Number of each panel's part, -1 for panels that stay, shape (n_panels,).
    centres_mm
        Centre of each part, shape (n_parts, 3).
    free
        Numbers of the motions that are refined, shape (n_free,).
    """

    of_panel: IntArray
    centres_mm: FloatArray
    free: IntArray

    def __len__(self) -> int:
        return len(self.centres_mm)


def parts_of(detector: Detector, level: Level, config: RefineDetectorConfig) -> Parts:
    """Parts that move at a level.

    A turn of the whole detector about the beam is left out: turning every crystal does the same.

    Raises
    ------
    ConfigError
        There are no such groups, or a group names a panel that the detector has not.
    """
    if level == "detector":
        members: Sequence[Sequence[int]] = [range(len(detector))]
        free = [_SHIFT_X, _SHIFT_Y, _SHIFT_Z, _TURN_X, _TURN_Y]
    else:
        members = [[number] for number in range(len(detector))] if level == "panels" else _groups(detector, config)
        free = list(range(N_MOTIONS)) if config.out_of_plane else [_SHIFT_X, _SHIFT_Y, _TURN_Z]
    of_panel = np.full(len(detector), -1, dtype=np.int64)
    for number, panels in enumerate(members):
        of_panel[list(panels)] = number
    centres = [np.mean([_centre(detector[panel]) for panel in panels], axis=0) for panels in members]
    return Parts(of_panel, np.array(centres), np.array(free))


def _centre(panel: Panel) -> FloatArray:
    return np.asarray(panel.pixel_to_lab(np.array([[panel.image_size[0] / 2, panel.image_size[1] / 2]]))[0])


def _groups(detector: Detector, config: RefineDetectorConfig) -> list[list[int]]:
    if config.groups is not None:
        wrong = [number for group in config.groups for number in group if not 0 <= number < len(detector)]
        if wrong:
            raise ConfigError(
                f"the detector has {len(detector)} panels, counted from 0, and no panel {wrong[0]}",
                where="refine_detector.groups",
            )
        return [list(group) for group in config.groups]
    nodes: list[dict[str, Any]] = [dict(detector.hierarchy)] if detector.hierarchy else []
    for _ in range(config.depth):
        nodes = [child for node in nodes for child in node.get("children", []) if "panel" not in child]
    if not nodes:
        raise ConfigError(
            f"the detector's hierarchy has no groups at depth {config.depth}",
            where="refine_detector.levels",
            hint="name the panels of each in refine_detector.groups, or refine the levels detector and panels",
        )
    return [_panels_below(node) for node in nodes]


def _panels_below(node: dict[str, Any]) -> list[int]:
    children = node.get("children", [])
    own = [int(child["panel"]) for child in children if "panel" in child]
    return own + [number for child in children if "panel" not in child for number in _panels_below(child)]


def move_parts(detector: Detector, parts: Parts, motions: FloatArray) -> Detector:
    """Move every part of a detector.

    Parameters
    ----------
    motions
        Shifts (mm) and rotation vectors (rad) in the laboratory frame, shape (n_parts, 6).
    """
    panels = []
    for panel, part in zip(detector.panels, parts.of_panel, strict=True):
        panels.append(panel if part < 0 else _moved(panel, parts.centres_mm[part], motions[part]))
    return replace(detector, panels=tuple(panels))


def _moved(panel: Panel, centre: FloatArray, motion: FloatArray) -> Panel:
    angle = float(np.linalg.norm(motion[3:]))
    turn = np.eye(3) if angle == 0 else rotation_matrix(motion[3:] / angle, angle)
    return replace(
        panel,
        origin_mm=centre + turn @ (panel.origin_mm - centre) + motion[:3],
        fast_axis=turn @ panel.fast_axis,
        slow_axis=turn @ panel.slow_axis,
    )


def motion_derivatives(detector: Detector, panel: IntArray, rays: FloatArray, parts: Parts) -> FloatArray:
    """Derivative of predicted positions by the motions of the part that they lie on, px, shape (n, 2, n_free).

    A motion displaces the point P of the panel by u. The ray of direction s meets the moved plane, of normal n, at
    P + s (u.n)/(s.n), which lies at the place of the panel that was at P + s (u.n)/(s.n) - u before.

    Parameters
    ----------
    panel
        Panels that the rays meet, shape (n,).
    rays
        Directions of the diffracted rays, shape (n, 3).
    """
    axes = np.array([[item.fast_axis, item.slow_axis] for item in detector.panels])[panel]
    normal = np.array([item.normal for item in detector.panels])[panel]
    distance = np.array([item.distance_mm for item in detector.panels])[panel]
    pixel = np.array([item.pixel_size_mm for item in detector.panels])[panel]
    along = (rays * normal).sum(axis=1)
    point = rays * (distance / along)[:, None]
    offset = point - parts.centres_mm[parts.of_panel[panel]]
    derivative = np.empty((len(rays), 2, len(parts.free)))
    for column, motion in enumerate(parts.free):
        unit = np.eye(3)[motion % 3]
        u = np.broadcast_to(unit, offset.shape) if motion < 3 else np.cross(unit, offset)
        slip = rays * ((u * normal).sum(axis=1) / along)[:, None] - u
        derivative[:, :, column] = np.einsum("nij,nj->ni", axes, slip) / pixel
    return derivative
