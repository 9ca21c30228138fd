"""Levenberg-Marquardt minimization within bounds, for objectives whose Hessian is replaced by Fisher's information."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exafel.arrays import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An objective at one point: value, gradient (n,), expected Hessian (n, n)."""

    value: float
    gradient: FloatArray
    hessian: FloatArray


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where the minimization ended.

    Parameters
    ----------
    x, at
        The point, and the objective there.
    n_evaluations
        Evaluations used.
    converged
        Whether the last step was below the tolerance, rather than the evaluations used up.
    at_bound
        Whether a variable lies on a bound, shape (n,).
    """

    x: FloatArray
    at: Evaluation
    n_evaluations: int
    converged: bool
    at_bound: BoolArray


def minimize(
    evaluate: Callable[[FloatArray], Evaluation],
    x: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    *,
    max_evaluations: int = 60,
    tolerance: float = 1e-3,
    max_step: float = 3.0,
) -> Minimum:
    """Minimize from `x`; the objective never rises, and no step is longer than `max_step` in any variable.

    The damped Fisher-scoring step is (H + lambda diag H) s = -g over the variables that are not held by a bound
    (Nocedal & Wright 2006, Numerical Optimization, ch. 10); lambda follows the ratio of actual to predicted gain.

    Parameters
    ----------
    evaluate
        Objective, gradient and expected Hessian at a point, in variables of unit scale.
    x, bounds
        Start, and smallest and largest values, each of shape (n,).
    max_evaluations
        Where to stop at the latest.
    tolerance
        Converged where a step promises to gain less than this (the objective is a log-likelihood: 1/2 is one sigma)
        or moves no variable by more than it.
    """
    low, high = bounds
    x = np.clip(x, low, high)
    now, damping, converged, used = evaluate(x), 1e-3, False, 1
    while used < max_evaluations and not converged:
        free = ~(((x <= low) & (now.gradient > 0)) | ((x >= high) & (now.gradient < 0)))
        step = _step(now, free, damping, max_step)
        step = np.clip(x + step, low, high) - x
        promised = -float(now.gradient @ step + 0.5 * step @ now.hessian @ step)
        if damping < 1e3 and (promised < tolerance or np.abs(step).max(initial=0.0) < tolerance * 0.1):
            converged = True
            break
        trial = evaluate(x + step)
        used += 1
        gain = now.value - trial.value
        if np.isfinite(trial.value) and gain > 0:
            x, now = x + step, trial
            damping = max(damping * (0.2 if gain > 0.5 * promised else 1.0), 1e-9)
        else:
            damping *= 8
            if damping > 1e8:
                converged = True
    return Minimum(x, now, used, converged, (x <= low) | (x >= high))


def _step(now: Evaluation, free: BoolArray, damping: float, max_step: float) -> FloatArray:
    step = np.zeros(len(now.gradient))
    chosen = np.flatnonzero(free)
    if not len(chosen):
        return step
    hessian = now.hessian[np.ix_(chosen, chosen)]
    diagonal = np.maximum(np.diag(hessian), 1e-12)
    step[chosen] = np.linalg.solve(hessian + np.diag(damping * diagonal + 1e-12), -now.gradient[chosen])
    longest = np.abs(step).max()
    return step * min(1.0, max_step / longest) if longest > 0 else step
