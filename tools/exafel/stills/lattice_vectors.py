"""Real-space lattice vectors of a crystal whose cell is not known, from the spots of one still.

Spots on a lattice lie on planes t.q = integer for every lattice vector t. Projected on the direction of t, they have
the period 1/|t|, which a one-dimensional Fourier transform shows (Steller, Bolotovsky & Rossmann 1997, J. Appl. Cryst.
30, 1036): the real part at the length L is the sum over spots of cos(2 pi L p), which at a lattice vector is their
number. Peaks over a half sphere of directions are refined and ranked by the score of the search with a known cell.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from exafel.arrays import FloatArray
from exafel.stills.orientation_search import half_sphere, refine_vectors, score_vectors

_MIN_CELL_ANGSTROM = 15.0  # shorter vectors fit nearly any spots
_STEP = 0.35  # of the directions, in units of the index of the spots of typical resolution at the longest vector
_OVERSAMPLING = 2.5  # bins of the projection in one period of the longest vector
_LENGTHS_PER_PERIOD = 4.0  # steps of the length while the index of the finest spots changes by two
_LOWEST_PEAK = 0.3  # part of the spots that a peak's height is at the least; chance seldom gets so far
_COARSE_SPOTS = 100  # of lowest resolution, for the transforms; all are used to refine and rank
_PEAKS = 1500  # that are scored
_DIRECTIONS_AT_ONCE = 2048
_LENGTH_TOLERANCE = 0.06  # by which the refinement may change a vector's length
_SAME = 0.4  # vectors closer than this in units of the index at the finest spots are one


def find_lattice_vectors(rlp: FloatArray, max_length: float, keep: int) -> tuple[FloatArray, FloatArray]:
    """Find vectors of the real-space lattice, those that explain most spots first.

    Parameters
    ----------
    rlp
        Reciprocal-space positions of the spots to search with, shape (n, 3), 1/angstrom.
    max_length
        Length up to which vectors are looked for, angstrom.
    keep
        Largest number of vectors.

    Returns
    -------
    vectors, scores
        Shapes (m, 3), angstrom, and (m,).
    """
    sizes = np.linalg.norm(rlp, axis=1)
    coarse = rlp[np.argsort(sizes, kind="stable")[:_COARSE_SPOTS]]
    step = _STEP / (max_length * float(np.median(np.linalg.norm(coarse, axis=1))))
    directions = half_sphere(int(np.ceil(2 * np.pi / step**2)))
    found = [
        _peaks(directions[first : first + _DIRECTIONS_AT_ONCE], coarse, max_length)
        for first in range(0, len(directions), _DIRECTIONS_AT_ONCE)
    ]
    vectors, heights = (np.concatenate(part) for part in zip(*found, strict=True))
    vectors = vectors[np.argsort(-heights, kind="stable")[:_PEAKS]]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = refine_vectors(vectors, rlp, lengths, _LENGTH_TOLERANCE)
    scores = score_vectors(vectors, rlp)
    order = np.argsort(-scores, kind="stable")
    vectors, scores = vectors[order], scores[order]
    chosen = _distinct(vectors, _SAME / float(sizes.max()), keep)
    return vectors[chosen], scores[chosen]


def _peaks(directions: FloatArray, rlp: FloatArray, max_length: float) -> tuple[FloatArray, FloatArray]:
    """Maxima of the directions' transforms, as vectors (m, 3) with their heights (m,)."""
    bin_width = 1.0 / (_OVERSAMPLING * max_length)
    finest = float(np.linalg.norm(rlp, axis=1).max())
    n_bins = 1 << int(np.ceil(np.log2(_LENGTHS_PER_PERIOD * finest / bin_width)))
    length = 1.0 / (n_bins * bin_width)  # of the first harmonic
    first, last = int(np.ceil(_MIN_CELL_ANGSTROM / length)), int(max_length / length) + 1
    scaled = (directions / bin_width).astype(np.float32) @ rlp.T.astype(np.float32)
    bins = np.rint(scaled).astype(np.int32) & (n_bins - 1)  # a projection that is longer than the period wraps around
    bins += np.arange(len(directions), dtype=np.int32)[:, None] * n_bins
    counts = np.bincount(bins.ravel(), minlength=len(directions) * n_bins).reshape(len(directions), n_bins)
    spectrum = scipy.fft.rfft(counts.astype(np.float32), axis=1).real[:, first - 1 : last + 2]
    inner = spectrum[:, 1:-1]
    rows, columns = np.nonzero(inner > _LOWEST_PEAK * len(rlp))
    heights = inner[rows, columns]
    is_peak = (heights >= spectrum[rows, columns]) & (heights > spectrum[rows, columns + 2])
    rows, columns = rows[is_peak], columns[is_peak]
    vectors = directions[rows] * ((columns + first) * length)[:, None]
    return vectors, heights[is_peak].astype(np.float64)


def _distinct(vectors: FloatArray, separation: float, keep: int) -> list[int]:
    """Rows of the vectors, in their order, that are no other's copy or opposite."""
    chosen: list[int] = []
    for row, vector in enumerate(vectors):
        others = vectors[chosen]
        gap = np.minimum(((others - vector) ** 2).sum(axis=1), ((others + vector) ** 2).sum(axis=1))
        if gap.min(initial=np.inf) > separation**2:
            chosen.append(row)
            if len(chosen) == keep:
                break
    return chosen
