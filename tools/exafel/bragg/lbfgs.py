"""L-BFGS with all its state in arrays that can be saved: a run that goes on gives the same numbers, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exafel.arrays import FloatArray

_SUFFICIENT = 1e-4
_SHORTEST = 1e-6


@dataclass(eq=False)
class LbfgsState:
    """Where a minimization is.

    Parameters
    ----------
    x, value, gradient
        The point, and the objective there.
    steps, changes
        The last steps and changes of the gradient, oldest first, each of shape (n,).
    iteration, evaluations
        How often `step` has moved, and how often the objective was computed.
    """

    x: FloatArray
    value: float
    gradient: FloatArray
    steps: list[FloatArray] = field(default_factory=list)
    changes: list[FloatArray] = field(default_factory=list)
    iteration: int = 0
    evaluations: int = 1

    def arrays(self) -> dict[str, FloatArray]:
        """Everything as arrays, for a checkpoint."""
        empty = np.empty((0, len(self.x)))
        return {
            "x": self.x,
            "gradient": self.gradient,
            "value": np.array([self.value]),
            "steps": np.array(self.steps) if self.steps else empty,
            "changes": np.array(self.changes) if self.changes else empty,
            "counts": np.array([self.iteration, self.evaluations], dtype=np.float64),
        }

    @staticmethod
    def from_arrays(arrays: dict[str, FloatArray]) -> LbfgsState:
        """Read what `arrays` returned."""
        iteration, evaluations = (int(count) for count in arrays["counts"])
        return LbfgsState(
            arrays["x"],
            float(arrays["value"][0]),
            arrays["gradient"],
            list(arrays["steps"]),
            list(arrays["changes"]),
            iteration,
            evaluations,
        )


Objective = Callable[[FloatArray], tuple[float, FloatArray]]


def step(state: LbfgsState, objective: Objective, *, longest: FloatArray, memory: int = 10) -> bool:
    """Move to a lower point; False where there is none along the search direction, and the state stays.

    The direction is that of Nocedal & Wright (2006), Numerical Optimization, algorithm 7.4; a first try of the whole
    step is shortened by cubic interpolation until the value falls enough (Armijo). Pairs without positive curvature are
    not kept.

    Parameters
    ----------
    state
        Where the minimization is; it is moved.
    objective
        Value and gradient at a point, in variables in which the Hessian is near the identity.
    longest
        Largest change of each variable in one step, shape (n,).
    memory
        Pairs kept.
    """
    direction = -_product(state)
    slope = float(direction @ state.gradient)
    if not slope < 0:
        state.steps.clear()
        state.changes.clear()
        direction = -state.gradient
        slope = float(direction @ state.gradient)
        if not slope < 0:
            return False
    length = 1.0 / max(1.0, float(np.max(np.abs(direction) / longest)))
    while length > _SHORTEST:
        x = state.x + length * direction
        value, gradient = objective(x)
        state.evaluations += 1
        if np.isfinite(value) and value <= state.value + _SUFFICIENT * length * slope:
            _accept(state, x, value, gradient, memory)
            return True
        length *= _shorter(value - state.value, length * slope)
    return False


def _shorter(rise: float, predicted: float) -> float:
    """Factor to the minimum of the parabola through the value and slope here and the value there, within 0.1 to 0.5."""
    if not np.isfinite(rise):
        return 0.1
    curvature = rise - predicted
    return float(np.clip(-0.5 * predicted / curvature, 0.1, 0.5)) if curvature > 0 else 0.5


def _accept(state: LbfgsState, x: FloatArray, value: float, gradient: FloatArray, memory: int) -> None:
    moved, change = x - state.x, gradient - state.gradient
    if float(moved @ change) > 1e-10 * float(np.linalg.norm(moved) * np.linalg.norm(change)):
        state.steps.append(moved)
        state.changes.append(change)
        del state.steps[:-memory], state.changes[:-memory]
    state.x, state.value, state.gradient = x, value, gradient
    state.iteration += 1


def _product(state: LbfgsState) -> FloatArray:
    """Inverse Hessian's approximation times the gradient."""
    q = state.gradient.copy()
    pairs = [(s, y, 1.0 / float(s @ y)) for s, y in zip(state.steps, state.changes, strict=True)]
    alphas = []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * float(s @ q))
        q -= alphas[-1] * y
    if pairs:
        s, y, rho = pairs[-1]
        q *= 1.0 / (rho * float(y @ y))
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - rho * float(y @ q)) * s
    return q
