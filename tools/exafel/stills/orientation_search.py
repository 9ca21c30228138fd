"""Search for the orientation of a known cell: real-space axes on a half sphere, then turns about each axis found.

Spots on a lattice lie on planes t.q = integer for every lattice vector t. The score of a vector sums, over spots,
max(0, 1 - (f/w)^2) with f the distance of t.q from the nearest integer. The three steps:

1. directions over a half sphere at the length of each axis that symmetry does not make equal to another (the
   directional sampling of Steller, Bolotovsky & Rossmann 1997, J. Appl. Cryst. 30, 1036, with the length known);
2. the best vectors refined with their length free, so that an error of the cell or of the distance does no harm;
3. the rest of the cell turned about each (as in Gasparotto et al. 2024, J. Appl. Cryst. 57, 931), scoring all axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from exafel import _kernels
from exafel.arrays import FloatArray, IntArray
from exafel.io.crystal import cell_from_basis, space_group_of_hall
from exafel.stills.cell_symmetry import lattice_points
from exafel.stills.misorientation import rotation_operations

_WIDTH = 0.3  # half width of the score, in units of the index
_STEP = 0.3  # step of a search in units of the index at the spots of highest resolution
_VECTORS_PER_AXIS = 30
_TURNS_PER_VECTOR = 2


@dataclass(frozen=True)
class _Axis:
    """One axis to search for, and what the lattice's symmetry makes of it."""

    number: int
    fold: int  # turns by 360/fold degrees about it leave the lattice as it is
    reversible: bool  # a rotation of the lattice reverses it


def search_orientations(rlp: FloatArray, basis: FloatArray, hall: str, tolerance: float, keep: int) -> FloatArray:
    """Find orientations of a known cell that explain many spots.

    Parameters
    ----------
    rlp
        Reciprocal-space positions of the spots to search with, shape (n, 3), 1/angstrom.
    basis
        Known cell, rows a, b, c in any orientation, shape (3, 3), angstrom.
    hall
        Hall symbol of the space group.
    tolerance
        Largest relative error of an axis' length.
    keep
        Number of orientations wanted.

    Returns
    -------
    ndarray
        Bases, rows a, b, c, best first, shape (m, 3, 3) with m <= `keep`; the cell's shape kept, its size scaled to
        the axis that was found.
    """
    finest = float(np.linalg.norm(rlp, axis=1).max())
    longest = float(np.linalg.norm(basis, axis=1).max())
    found: list[tuple[FloatArray, FloatArray]] = []
    for axis in _axes(tuple(map(tuple, basis)), hall):
        length = float(np.linalg.norm(basis[axis.number]))
        directions = half_sphere(_n_directions(length * finest))
        vectors = _best_vectors(length * directions, rlp, _STEP / finest)
        vectors = refine_vectors(vectors, rlp, length, tolerance)
        found.append(_turns(vectors, basis, axis, rlp, _STEP / (finest * longest)))
    bases, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    promising = bases[np.argsort(-scores, kind="stable")[:keep]]
    counts = _indexed_spots(promising, rlp, hall, tolerance)
    return promising[np.argsort(-counts, kind="stable")]


@lru_cache(maxsize=16)
def _axes(basis: tuple[tuple[float, ...], ...], hall: str) -> tuple[_Axis, ...]:
    rotations = rotation_operations(space_group_of_hall(hall), cell_from_basis(np.array(basis))).transpose(0, 2, 1)
    unit = np.eye(3)
    axes: list[_Axis] = []
    for number in range(3):
        images = rotations @ unit[number]
        if any((np.abs(images - unit[axis.number]).max(axis=1) < 1e-6).any() for axis in axes):
            continue
        fold = int(np.count_nonzero(np.abs(images - unit[number]).max(axis=1) < 1e-6))
        reversible = bool((np.abs(images + unit[number]).max(axis=1) < 1e-6).any())
        axes.append(_Axis(number, fold, reversible))
    return tuple(axes)


def _indexed_spots(bases: FloatArray, rlp: FloatArray, hall: str, tolerance: float) -> IntArray:
    """Count the spots near integers along all three axes of each basis, after a fit of every axis, shape (m,)."""
    lengths = np.linalg.norm(bases.reshape(-1, 3), axis=1, keepdims=True)
    axes = refine_vectors(bases.reshape(-1, 3), rlp, lengths, tolerance)
    index = (axes @ rlp.T).reshape(len(bases), 3, len(rlp))
    nearest = np.rint(index)
    near = np.abs(index - nearest).max(axis=1) < _WIDTH / 2
    return np.asarray(np.count_nonzero(near & lattice_points(nearest.swapaxes(1, 2), hall), axis=1))


def _n_directions(highest_index: float) -> int:
    return int(np.ceil(2 * np.pi * (highest_index / _STEP) ** 2 / 2.0))


@lru_cache(maxsize=8)
def half_sphere(n: int) -> FloatArray:
    """Directions of nearly equal spacing on a half sphere (a golden-angle spiral), shape (n, 3)."""
    number = np.arange(n) + 0.5
    z = 1.0 - number / n
    phi = np.pi * (3.0 - np.sqrt(5.0)) * number
    rho = np.sqrt(1.0 - z * z)
    return np.column_stack([rho * np.cos(phi), rho * np.sin(phi), z])


def score_vectors(vectors: FloatArray, rlp: FloatArray) -> FloatArray:
    """Score of real-space vectors (m, 3) against spots (n, 3), shape (m,)."""
    components = np.ascontiguousarray(vectors.T, dtype=np.float32)
    spots = np.ascontiguousarray(rlp.T, dtype=np.float32)
    return _kernels.score_vectors(components, spots, _WIDTH).astype(np.float64)


def _best_vectors(vectors: FloatArray, rlp: FloatArray, separation: float) -> FloatArray:
    """Vectors of the highest scores, none closer to a better one (or its opposite) than two `separation`."""
    scores = score_vectors(vectors, rlp)
    n_tried = min(len(scores), 20 * _VECTORS_PER_AXIS)
    tried = np.argpartition(-scores, n_tried - 1)[:n_tried]
    pool = vectors[tried[np.lexsort((tried, -scores[tried]))]]
    chosen: list[FloatArray] = []
    while len(pool) and len(chosen) < _VECTORS_PER_AXIS:
        best = pool[0]
        chosen.append(best)
        apart = np.minimum(((pool - best) ** 2).sum(axis=1), ((pool + best) ** 2).sum(axis=1))
        pool = pool[apart > (2 * separation) ** 2]
    return np.stack(chosen)


def refine_vectors(vectors: FloatArray, rlp: FloatArray, length: FloatArray | float, tolerance: float) -> FloatArray:
    """Least-squares fit of t.q to the nearest integers, weighted by the score; lengths kept within tolerance."""
    ridge = np.eye(3) * 1e-3 * float((rlp**2).sum(axis=1).mean())
    for _ in range(6):
        index = vectors @ rlp.T
        offset = index - np.rint(index)
        weight = np.maximum(0.0, 1.0 - (offset / _WIDTH) ** 2)
        normal = np.einsum("vn,ni,nj->vij", weight, rlp, rlp, optimize=True) + ridge
        right = (weight * offset) @ rlp
        vectors = vectors - np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors * np.clip(sizes, length * (1 - tolerance), length * (1 + tolerance)) / sizes
    return vectors


def _turns(
    vectors: FloatArray, basis: FloatArray, axis: _Axis, rlp: FloatArray, step: float
) -> tuple[FloatArray, FloatArray]:
    """Best turns of the cell about each vector, as bases (m, 3, 3) with their scores (m,)."""
    k = axis.number
    others = [(k + 1) % 3, (k + 2) % 3]
    signs = (1.0,) if axis.reversible else (1.0, -1.0)
    ends = np.concatenate([sign * vectors for sign in signs])
    n_turns = int(np.ceil(2 * np.pi / axis.fold / step))
    phi = np.arange(n_turns) * (2 * np.pi / axis.fold / n_turns)
    size = np.linalg.norm(ends, axis=1)
    z = ends / size[:, None]
    x = np.cross(z, np.eye(3)[np.argmin(np.abs(z), axis=1)])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.cross(z, x)
    length = np.linalg.norm(basis[k])
    along = basis[others] @ basis[k] / length
    first, second = _plane_axes(basis, k)
    in_plane = np.column_stack([basis[others] @ first, basis[others] @ second])
    cosine, sine = np.cos(phi), np.sin(phi)
    u = in_plane[:, :1] * cosine - in_plane[:, 1:] * sine  # (2, n_turns)
    v = in_plane[:, :1] * sine + in_plane[:, 1:] * cosine
    turned = (
        u[None, :, :, None] * x[:, None, None]
        + v[None, :, :, None] * y[:, None, None]
        + along[None, :, None, None] * z[:, None, None]
    ) * (size / length)[:, None, None, None]  # (n_ends, 2, n_turns, 3)
    scores = score_vectors(turned.reshape(-1, 3), rlp).reshape(len(ends), 2, n_turns).sum(axis=1)
    own = score_vectors(ends, rlp)
    number, turn = _peaks(scores)
    rows = np.empty((len(number), 3, 3))
    rows[:, k] = ends[number]
    rows[:, others] = turned[number, :, turn]
    return rows, own[number] + scores[number, turn]


def _plane_axes(basis: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    z = basis[k] / np.linalg.norm(basis[k])
    x = basis[(k + 1) % 3] - (basis[(k + 1) % 3] @ z) * z
    x /= np.linalg.norm(x)
    return x, np.cross(z, x)


def _peaks(scores: FloatArray) -> tuple[IntArray, IntArray]:
    """Rows and columns of the highest local maxima of each row, whose columns lie on a circle."""
    is_peak = (scores >= np.roll(scores, 1, axis=1)) & (scores > np.roll(scores, -1, axis=1))
    heights = np.where(is_peak, scores, -1.0)
    columns = np.argsort(-heights, axis=1, kind="stable")[:, :_TURNS_PER_VECTOR]
    rows = np.repeat(np.arange(len(scores)), columns.shape[1])
    return rows, columns.ravel()
