"""Stage 2's sums over pixels by sparse matrices: the same code for NumPy and, on a GPU, CuPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Literal

import numpy as np
from scipy import sparse

from exafel.arrays import FloatArray
from exafel.bragg.packed import LARGEST_Z2, PackedShots, interleaved
from exafel.errors import ConfigError

_NEWTON_STEPS = 40


def array_evaluator(device: Literal["cpu", "gpu"]) -> Callable[[PackedShots], ArrayShots] | None:
    """Return what makes evaluators on a device; None for the host's compiled kernel.

    Raises
    ------
    ConfigError
        CuPy is not installed, or finds no GPU.
    """
    if device == "cpu":
        return None
    try:
        import cupy
        import cupyx.scipy.sparse

        cupy.cuda.Device().compute_capability  # noqa: B018 - raises where there is no GPU
    except (ImportError, RuntimeError) as error:  # CuPy's own errors are RuntimeErrors
        raise ConfigError(
            f"no GPU can be used: {error}", where="stage2.device", hint="pip install 'exafel[gpu-cuda]', or take cpu"
        ) from error
    return partial(ArrayShots, xp=cupy, matrices=cupyx.scipy.sparse)


class ArrayShots:
    """Packed shots as one sparse matrix of coefficients, pixels by reflections.

    Parameters
    ----------
    shots
        The shots.
    xp, matrices
        Array module and its sparse matrices: NumPy and SciPy, or CuPy's.
    """

    def __init__(self, shots: PackedShots, xp: ModuleType = np, matrices: ModuleType = sparse) -> None:
        self._xp = xp
        row, column, value = _triplets(shots)
        n_columns = int(column.max(initial=-1)) + 1
        table = sparse.csr_matrix((value, (row, column)), shape=(len(shots.data), n_columns))
        self._k = matrices.csr_matrix(table)
        self._kt = matrices.csr_matrix(table.T.tocsr())
        self._kt2 = matrices.csr_matrix(table.T.tocsr().power(2))
        sizes = np.diff(shots.pixel_start)
        n_shots, n_pixels = len(sizes), len(shots.data)
        of_shot = sparse.csr_matrix(
            (np.ones(n_pixels), np.arange(n_pixels), shots.pixel_start), shape=(n_shots, n_pixels)
        )
        self._sum = matrices.csr_matrix(of_shot)
        self._shot = xp.asarray(np.repeat(np.arange(n_shots), sizes))
        self._data = xp.asarray(shots.data.astype(np.float64))
        self._background = xp.asarray(shots.background.astype(np.float64))
        self._n_columns = n_columns

    def evaluate(
        self,
        f_squared: FloatArray,
        noise: float,
        refine_scale: bool,
        log_scale: FloatArray,
        numbers: FloatArray,
        gradient: FloatArray,
        curvature: FloatArray,
        threads: int,  # noqa: ARG002 - every evaluator's signature
    ) -> None:
        """Fill likelihood and sums of Z^2 by shot; add derivatives by ln F to arrays that are not empty."""
        xp, n = self._xp, self._n_columns
        squares = xp.asarray(f_squared[:n])
        unit = self._k @ squares
        scale = xp.asarray(log_scale)
        if refine_scale:
            scale = self._best_scale(unit, noise, scale)
        bragg = unit * xp.exp(scale)[self._shot]
        inverse = 1 / (bragg + self._background + noise)
        residual = self._data - bragg - self._background
        ratio = residual * inverse
        slope = 0.5 * (inverse - 2 * ratio - ratio * ratio)
        pixel = 0.5 * (np.log(2 * np.pi) - xp.log(inverse) + residual * ratio)
        numbers[:, 0] = self._host(self._sum @ pixel)
        numbers[:, 1] = self._host(self._sum @ (residual * ratio))
        numbers[:, 2] = self._host(self._sum @ xp.minimum(residual * ratio, LARGEST_Z2))
        log_scale[:] = self._host(scale)
        g = xp.exp(scale)[self._shot]
        if len(gradient):
            gradient[:n] += self._host(2 * squares * (self._kt @ (slope * g)))
        if len(curvature):
            fisher = inverse * (1 + 0.5 * inverse)
            curvature[:n] += self._host((2 * squares) ** 2 * (self._kt2 @ (fisher * g * g)))

    def _best_scale(self, unit: Any, noise: float, scale: Any) -> Any:
        """Newton's steps in the logarithm of every shot's scale at once."""
        xp = self._xp
        for _ in range(_NEWTON_STEPS):
            bragg = unit * xp.exp(scale)[self._shot]
            inverse = 1 / (bragg + self._background + noise)
            ratio = (self._data - bragg - self._background) * inverse
            slope = 0.5 * (inverse - 2 * ratio - ratio * ratio)
            bend = inverse * (1 - 0.5 * inverse + 2 * ratio + ratio * ratio)
            first = self._sum @ (slope * bragg)
            second = self._sum @ ((bend * bragg + slope) * bragg)
            expected = self._sum @ (inverse * (1 + 0.5 * inverse) * bragg * bragg)
            used = xp.where(second > 0.2 * expected, second, expected)
            step = xp.where(expected > 0, -first / xp.where(expected > 0, used, 1.0), 0.0)
            step = xp.clip(step, -1.0, 1.0)
            scale = scale + step
            if float(xp.abs(step).max()) < 1e-4:
                break
        return scale

    def _host(self, values: Any) -> FloatArray:
        return np.asarray(values if self._xp is np else self._xp.asnumpy(values))


def _triplets(shots: PackedShots) -> tuple[Any, Any, Any]:
    """Pixel, reflection and coefficient of every term."""
    rows, columns, values = [], [], []
    for shot in range(len(shots)):
        r0, r1 = shots.reflection_start[shot : shot + 2]
        s0, s1 = shots.single_start[shot : shot + 2]
        w0, w1 = shots.row_start[shot : shot + 2]
        t0, t1 = shots.term_start[shot : shot + 2]
        pixel, n_single = shots.pixel_start[shot], s1 - s0
        reflection = shots.reflection[r0:r1]
        rows += [
            pixel + np.arange(n_single),
            pixel + n_single + np.repeat(np.arange(w1 - w0), shots.row_terms[w0:w1]),
        ]
        alone = shots.n_single[r0:r1].astype(np.int64)
        columns += [np.repeat(reflection, alone)[interleaved(alone)], reflection[shots.term_reflection[t0:t1]]]
        values += [shots.single_k[s0:s1], shots.term_k[t0:t1]]
    empty = np.empty(0, dtype=np.int64)
    return (
        np.concatenate([empty, *rows]),
        np.concatenate([empty, *columns]),
        np.concatenate([np.empty(0), *values]).astype(np.float64),
    )
