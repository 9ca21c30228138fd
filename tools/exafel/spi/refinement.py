"""Refine: every image's orientation from where it is, by damped Gauss-Newton steps on the rotation and the scale.

The cost is 2 transforms an image and step, whatever the accuracy, where a local grid of orientations needs as many
views as it has points. Levenberg's damping (1944, Q. Appl. Math. 2, 164) keeps every step from making a score worse.
"""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, DeviceArray
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Scorer
from exafel.spi.rotations import from_vectors, multiply
from exafel.spi.slicing import batches, slices_with_gradient

_LONGEST_STEP = 0.15  # radians


def refine(
    d: AnyArray, model: AnyArray, quaternions: AnyArray, cube: Cube, pixels: Pixels, scorer: Scorer, steps: int
) -> tuple[AnyArray, AnyArray]:
    """Refine the orientations of images against one model.

    Parameters
    ----------
    d
        Images, shape (n, pixels), on the device; not prepared.
    quaternions
        Where they are, shape (n, 4), on the host.
    steps
        Gauss-Newton steps.

    Returns
    -------
    quaternions
        Better ones, shape (n, 4), on the host.
    score
        Their scores, shape (n,), on the host.
    """
    parts = [
        _refine_batch(d[rows], model, quaternions[rows], cube, pixels, scorer, steps)
        for rows in batches(len(d), len(pixels), 1_000_000)
    ]
    return np.concatenate([q for q, _ in parts]), np.concatenate([score for _, score in parts])


def _refine_batch(
    d: AnyArray, model: AnyArray, start: AnyArray, cube: Cube, pixels: Pixels, scorer: Scorer, steps: int
) -> tuple[AnyArray, AnyArray]:
    backend = scorer.backend
    best, trial = np.array(start, dtype=np.float64), np.array(start, dtype=np.float64)
    best_score = np.full(len(d), -np.inf)
    step = np.zeros((len(d), 3))
    damping = np.full(len(d), 1e-3)
    for number in range(steps + 1):
        m, derivative = slices_with_gradient(model, trial, cube, pixels, backend)
        score = backend.host(scorer.pairs(d, m)).astype(np.float64)
        better = score > best_score
        best[better], best_score[better] = trial[better], score[better]
        if number == steps:
            break
        new = backend.host(_gauss_newton(d, m, derivative, damping, scorer))
        damping = np.where(better, damping * 0.3, damping * 10)
        step = np.where(better[:, None], new, step * 0.3)
        trial = multiply(best, from_vectors(-step))
    return best, best_score


def _gauss_newton(d: AnyArray, m: AnyArray, derivative: AnyArray, damping: AnyArray, scorer: Scorer) -> DeviceArray:
    """Steps δ in radians, shape (n, 3), that fit d to φ (m + δ · dm/dδ)."""
    xp = scorer.backend.xp
    counts = scorer.score == "poisson"
    weight = 1 / scorer.positive(m) if counts else xp.broadcast_to(scorer.weight, m.shape)
    columns = xp.concatenate([m[:, None, :], derivative], axis=1)
    weighted = columns * weight[:, None, :]
    normal = xp.matmul(weighted, columns.transpose(0, 2, 1)).astype(xp.float64)
    right = xp.matmul(weighted, d[:, :, None]).astype(xp.float64)
    diagonal = xp.diagonal(normal, axis1=1, axis2=2)
    lift = 1 + scorer.backend.array(damping, dtype=xp.float64)[:, None]
    eye = xp.eye(4)
    normal = normal + eye * (diagonal * (lift - 1) + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30)[:, None, :]
    solution = xp.linalg.solve(normal, right)[:, :, 0]
    step = solution[:, 1:] / xp.where(xp.abs(solution[:, :1]) > 1e-30, solution[:, :1], 1)
    length = xp.sqrt((step * step).sum(axis=1, keepdims=True))
    return step * xp.minimum(1, _LONGEST_STEP / xp.maximum(length, 1e-12))
