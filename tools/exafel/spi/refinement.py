"""Refine: every image's orientation from where it is, by damped Gauss-Newton steps on the rotation and the scale.

The cost is 2 transforms an image and step, whatever the accuracy, where a local grid of orientations needs as many
views as it has points. Levenberg's damping (1944, Q. Appl. Math. 2, 164) keeps steps from making a score worse. Only a
step too short to matter is taken without a look, and ends an image: late generations cost one step.
"""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, DeviceArray
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Scorer
from exafel.spi.rotations import from_vectors, multiply
from exafel.spi.slicing import batches, slices, slices_with_gradient

_LONGEST_STEP = 0.15  # radians
_SHORTEST_PHASE = 0.1
"""Radians by which a rotation too short to be looked at turns the phase of the farthest voxel in the last pixel."""


def shortest_step(cube: Cube) -> float:
    """Angle in radians of a step that is not worth a look: phases turn by π a voxel, at up to m / 2 voxels."""
    return _SHORTEST_PHASE / (np.pi * cube.m / 2)


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
        Gauss-Newton steps at most; one shorter than `shortest_step` is an image's last.

    Returns
    -------
    quaternions
        Better ones, shape (n, 4), on the host.
    score
        Their scores before such a last step, shape (n,), on the host.
    """
    backend = scorer.backend
    best = np.array(quaternions, dtype=np.float64)
    best_score = np.full(len(d), -np.inf)
    trial, step, damping = best.copy(), np.zeros((len(d), 3)), np.full(len(d), 1e-3)
    going = np.arange(len(d))
    for number in range(steps + 1):
        for part in batches(len(going), len(pixels)):
            rows = going[part]
            images = d[rows]
            if number < steps:
                m, derivative = slices_with_gradient(model, trial[rows], cube, pixels, backend)
            else:
                m = slices([model], trial[rows], cube, pixels, backend)[0]
            score = backend.host(scorer.pairs(images, m)).astype(np.float64)
            better = score > best_score[rows]
            best[rows[better]], best_score[rows[better]] = trial[rows[better]], score[better]
            if number < steps:
                new = backend.host(_gauss_newton(images, m, derivative, damping[rows], scorer))
                damping[rows] *= np.where(better, 0.3, 10)
                step[rows] = np.where(better[:, None], new, step[rows] * 0.3)
        short = np.linalg.norm(step[going], axis=1) <= shortest_step(cube)
        ended, going = going[short], going[~short]
        best[ended] = multiply(best[ended], from_vectors(-step[ended]))
        trial[going] = multiply(best[going], from_vectors(-step[going]))
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
