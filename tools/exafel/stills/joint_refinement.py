"""Joint refinement of a detector and of many lattices.

The residuals of a spot are its distance from the predicted position along fast and slow (px) and the angle by which its
reflection misses the Ewald sphere (rad). Every lattice has an orientation and a cell of its own; the detector's motions
are common to all. The normal equations then have the shape of an arrow, and the lattices' parameters are eliminated one
lattice at a time (Schur complement), so the cost grows as the number of lattices does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exafel.arrays import BoolArray, FloatArray, IntArray
from exafel.config.refine_detector import Level, RefineDetectorConfig
from exafel.io.geometry import Detector
from exafel.stills.cell_symmetry import invariant_metrics
from exafel.stills.detector_motion import N_MOTIONS, Parts, motion_derivatives, move_parts, parts_of
from exafel.stills.ewald import rotate_to_ewald
from exafel.stills.setting import move_setting, setting_derivatives

_MAD = 1.4826  # standard deviation of a normal law over its median absolute deviation
_HUBER = 2.0  # standard deviations from which on a residual counts linearly
_STEP = 1e-6  # of a numerical derivative by a lattice's parameters
_PRIOR = np.array([1.0, 1.0, 1.0, 0.01, 0.01, 0.01])  # mm and rad: motions that the spots do not tell stay near zero
_CRYSTAL_PRIOR = 0.02  # rad and strain, likewise
_CONVERGED_PX = 1e-3


@dataclass(frozen=True, eq=False)
class JointData:
    """Indexed spots of many lattices.

    Parameters
    ----------
    settings
        Setting matrices, shape (n_lattices, 3, 3), 1/angstrom.
    s0_unit
        Directions of the lattices' beams, shape (n_lattices, 3).
    hall
        Hall symbol of all of them.
    lattice, panel
        Numbers of each spot's lattice and panel, shape (n,).
    hkl
        Indices, shape (n, 3).
    xy_px
        Observed positions, shape (n, 2).
    wave_number
        Wave number that each spot selects, 1/angstrom, shape (n,).
    """

    settings: FloatArray
    s0_unit: FloatArray
    hall: str
    lattice: IntArray
    panel: IntArray
    hkl: FloatArray
    xy_px: FloatArray
    wave_number: FloatArray

    def __len__(self) -> int:
        return len(self.lattice)


@dataclass(frozen=True, eq=False)
class JointResult:
    """A refined detector.

    Parameters
    ----------
    detector
        The detector, moved.
    settings
        Refined setting matrices, shape (n_lattices, 3, 3).
    rmsd_before_px, rmsd_after_px
        Root mean square distances of observed and predicted positions, of the spots that are no outliers in the end.
    n_used
        Number of these spots.
    n_parts, n_moved
        Parts of the last level, and those of them with enough spots.
    """

    detector: Detector
    settings: FloatArray
    rmsd_before_px: float
    rmsd_after_px: float
    n_used: int
    n_parts: int
    n_moved: int


def refine_jointly(data: JointData, detector: Detector, config: RefineDetectorConfig) -> JointResult:
    """Refine a detector level by level; the parts of coarser levels go on moving while finer ones are refined.

    Raises
    ------
    ConfigError
        The configuration names parts that the detector has not.
    """
    state, current = data, detector
    layers: list[_Layer] = []
    used = np.ones(len(data), dtype=np.bool_)
    for level in dict.fromkeys(config.levels):
        parts = parts_of(detector, level, config)
        layers.append(_Layer(level, parts, np.zeros(0, dtype=np.int64), np.zeros((len(parts), N_MOTIONS))))
        for _ in range(config.max_cycles):
            kept = used
            used = _inliers(_residuals(state, state.settings, current), config.outlier_sigma)
            for layer in layers:
                layer.moved = _with_enough(state.panel[used], layer.parts, config.min_reflections)
            current, state = _minimise(state, detector, layers, used, config)
            if np.array_equal(kept, used):
                break
    return JointResult(
        current,
        state.settings,
        _rmsd(_residuals(data, data.settings, detector)[used]),
        _rmsd(_residuals(state, state.settings, current)[used]),
        int(np.count_nonzero(used)),
        len(layers[-1].parts),
        len(layers[-1].moved),
    )


@dataclass(eq=False)
class _Layer:
    """A level's parts, which of them have enough spots, and how each has moved so far, shape (n_parts, 6)."""

    level: Level
    parts: Parts
    moved: IntArray
    total: FloatArray


def _apply(base: Detector, layers: list[_Layer], config: RefineDetectorConfig) -> Detector:
    """Move the parts of all levels, the coarsest first; finer parts turn about their centres as these then are."""
    for layer in layers:
        layer.parts = parts_of(base, layer.level, config)
        base = move_parts(base, layer.parts, layer.total)
    return base


def _rmsd(residual: FloatArray) -> float:
    return float(np.sqrt((residual[:, :2] ** 2).sum(axis=1).mean())) if len(residual) else 0.0


def _rays(data: JointData, settings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Predicted directions (n, 3) and angles to the Ewald sphere (n,), rad."""
    r = np.einsum("nij,nj->ni", settings[data.lattice], data.hkl)
    rays = np.full(r.shape, np.nan)
    angle = np.full(len(r), np.nan)
    directions, which = np.unique(data.s0_unit, axis=0, return_inverse=True)
    which = which.ravel()[data.lattice]
    for number, s0 in enumerate(directions):
        rows = which == number
        rays[rows], angle[rows] = rotate_to_ewald(r[rows], s0, data.wave_number[rows])
    return rays, angle


def _positions(detector: Detector, panel: IntArray, rays: FloatArray) -> FloatArray:
    """Positions on the planes of given panels, px, shape (n, 2)."""
    xy = np.empty((len(rays), 2))
    for number in np.unique(panel):
        rows = panel == number
        xy[rows] = detector[int(number)].ray_to_pixel(rays[rows])[0]
    return xy


def _residuals(data: JointData, settings: FloatArray, detector: Detector) -> FloatArray:
    """Predicted minus observed position, px, and angle to the Ewald sphere, rad, shape (n, 3)."""
    rays, angle = _rays(data, settings)
    return np.column_stack([_positions(detector, data.panel, rays) - data.xy_px, angle])


def _inliers(residual: FloatArray, limit: float) -> BoolArray:
    finite = np.isfinite(residual).all(axis=1)
    return np.asarray(finite & (np.abs(residual) <= limit * _scales(residual[finite])).all(axis=1))


def _scales(residual: FloatArray) -> FloatArray:
    """Robust standard deviations of the three components about zero; the two on the detector share one."""
    if not len(residual):
        return np.ones(3)
    size = _MAD * np.array([np.median(np.abs(residual[:, :2])), np.median(np.abs(residual[:, 2]))])
    return np.maximum(size[[0, 0, 1]], 1e-9)


def _with_enough(panel: IntArray, parts: Parts, smallest: int) -> IntArray:
    part = parts.of_panel[panel]
    return np.flatnonzero(np.bincount(part[part >= 0], minlength=len(parts)) >= smallest)


def _minimise(
    data: JointData, base: Detector, layers: list[_Layer], used: BoolArray, config: RefineDetectorConfig
) -> tuple[Detector, JointData]:
    metrics = invariant_metrics(data.hall) if config.refine_cells else np.zeros((0, 3, 3))
    settings, current = data.settings, _apply(base, layers, config)
    scales = _scales(_residuals(data, settings, current)[used])
    for _ in range(config.max_iterations):
        shift, steps = _step(replace(data, settings=settings), current, layers, used, metrics, scales)
        first = 0
        for layer in layers:
            size = layer.moved.size * len(layer.parts.free)
            block = shift[first : first + size].reshape(len(layer.moved), len(layer.parts.free))
            layer.total[np.ix_(layer.moved, layer.parts.free)] += block
            first += size
        moved = _apply(base, layers, config)
        settings = np.stack([move_setting(A, metrics, step) for A, step in zip(settings, steps, strict=True)])
        done = _largest_move(current, moved) < _CONVERGED_PX * min(base[0].pixel_size_mm)
        current = moved
        if done:
            break
    return current, replace(data, settings=settings)


def _largest_move(before: Detector, after: Detector) -> float:
    """Largest displacement of the corners of the panels, mm."""
    size = [np.array([[0.0, 0.0], panel.image_size]) for panel in before.panels]
    moves = [
        np.abs(new.pixel_to_lab(xy) - old.pixel_to_lab(xy)).max()
        for old, new, xy in zip(before.panels, after.panels, size, strict=True)
    ]
    return float(max(moves))


def _step(
    data: JointData,
    detector: Detector,
    layers: list[_Layer],
    used: BoolArray,
    metrics: FloatArray,
    scales: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """One Gauss-Newton step: of the moving parts' motions, one after the other, and of the lattices (n_lattices, p)."""
    residual = _residuals(data, data.settings, detector)
    good = used & np.isfinite(residual).all(axis=1)
    z = residual[good] / scales
    weight = np.minimum(1.0, _HUBER / np.maximum(np.abs(z), 1e-12))
    by_lattice = _lattice_derivatives(data, detector, metrics)[good] / scales[:, None]
    lattice = data.lattice[good]
    own, own_gradient = _lattice_blocks(by_lattice, z, weight, lattice, len(data.settings))
    rays = _rays(data, data.settings)[0][good]
    J, column, n_columns = _motion_columns(detector, data.panel[good], rays, layers)
    J = J / scales[0]
    w = weight[:, :2]
    S = np.zeros((n_columns + 1, n_columns + 1))  # the last is for parts that stay
    np.add.at(S, (column[:, :, None], column[:, None, :]), np.einsum("nik,ni,nil->nkl", J, w, J))
    g = np.zeros(n_columns + 1)
    np.add.at(g, column, np.einsum("nik,ni,ni->nk", J, w, z[:, :2]))
    cross = np.zeros((len(data.settings), n_columns + 1, by_lattice.shape[2]))
    np.add.at(cross, (lattice[:, None], column), np.einsum("nip,ni,nik->nkp", by_lattice[:, :2], w, J))
    S, g, cross = S[:-1, :-1], g[:-1], cross[:, :-1].transpose(0, 2, 1)
    _add_prior(S, g, layers)
    solved = np.linalg.solve(own, np.concatenate([cross, own_gradient[:, :, None]], axis=2))
    S -= np.einsum("lpi,lpj->ij", cross, solved[:, :, :-1], optimize=True)
    g -= np.einsum("lpi,lp->i", cross, solved[:, :, -1])
    found = -np.linalg.solve(S, g) if n_columns else g
    return np.asarray(found), np.asarray(-(solved[:, :, -1] + solved[:, :, :-1] @ found))


def _motion_columns(
    detector: Detector, panel: IntArray, rays: FloatArray, layers: list[_Layer]
) -> tuple[FloatArray, IntArray, int]:
    """Derivatives by the motions of all levels (n, 2, k), the parameter each belongs to (n, k), and their number."""
    derivatives, columns, first = [], [], 0
    for layer in layers:
        n_free = len(layer.parts.free)
        place = np.full(len(layer.parts) + 1, -1)  # the last is for panels of no part
        place[layer.moved] = first + n_free * np.arange(len(layer.moved))
        start = place[layer.parts.of_panel[panel]]
        columns.append(np.where(start[:, None] < 0, -1, start[:, None] + np.arange(n_free)))
        derivatives.append(motion_derivatives(detector, panel, rays, layer.parts))
        first += n_free * len(layer.moved)
    return np.concatenate(derivatives, axis=2), np.concatenate(columns, axis=1), first


def _add_prior(S: FloatArray, g: FloatArray, layers: list[_Layer]) -> None:
    """Keep near zero what the spots do not tell, such as whether a group has moved or all of its panels."""
    weight = np.concatenate([np.tile(_PRIOR[item.parts.free] ** -2.0, len(item.moved)) for item in layers])
    total = np.concatenate([item.total[np.ix_(item.moved, item.parts.free)].ravel() for item in layers])
    S[np.diag_indices_from(S)] += weight
    g += weight * total


def _lattice_blocks(
    J: FloatArray, z: FloatArray, weight: FloatArray, lattice: IntArray, n_lattices: int
) -> tuple[FloatArray, FloatArray]:
    size = J.shape[2]
    own = np.zeros((n_lattices, size, size))
    np.add.at(own, lattice, np.einsum("nip,ni,niq->npq", J, weight, J))
    gradient = np.zeros((n_lattices, size))
    np.add.at(gradient, lattice, np.einsum("nip,ni,ni->np", J, weight, z))
    return own + np.eye(size) / _CRYSTAL_PRIOR**2, gradient


def _lattice_derivatives(data: JointData, detector: Detector, metrics: FloatArray) -> FloatArray:
    """Derivative of the residuals by each lattice's rotations and strains, shape (n, 3, 3 + n_cell).

    The change of a reciprocal-lattice point is exact (`setting_derivatives`), that of the ray on the Ewald sphere is
    a central difference along it.
    """
    rates = np.stack([setting_derivatives(A, metrics) for A in data.settings])  # (n_lattices, p, 3, 3)
    result = np.empty((len(data), 3, rates.shape[1]))
    for parameter in range(rates.shape[1]):
        change = rates[:, parameter] @ data.settings * _STEP
        ahead, behind = (_residuals(data, data.settings + sign * change, detector) for sign in (1.0, -1.0))
        result[:, :, parameter] = (ahead - behind) / (2.0 * _STEP)
    return result
