"""Postrefinement of a lattice against reference intensities, as the algorithms rs and rs2 of cctbx.xfel.merge.

A still records each reflection in part. Scale G, B factor, radius RS of the reciprocal-lattice nodes and two small
rotations are refined so that G exp(-2 B s^2) p I_reference meets the observations, where s = sin(theta)/lambda and
p = r^2 / (2 Rh^2 + r^2) with Rh the distance of the node from the Ewald sphere (Sauter et al. (2013), Acta Cryst.
D69, 1274; Sauter (2015), J. Synchrotron Rad. 22, 239). Rotations are about the laboratory's x and then y; one about the
beam would change nothing.

In these algorithms r = RS. Mosaicity and bandwidth widen nodes in proportion to their distance from the origin, so that
one radius makes partialities at high resolution too small; here r = RS + ETA/(2 d) (the width of eta_deff), and ETA = 0
gives theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel._kernels import postrefine_normal, still_factors
from exafel.arrays import BoolArray, FloatArray
from exafel.config.scaling import PostrefinementConfig
from exafel.merging.scaling import correlation_with

PARAMETERS = ("G", "B", "RS", "ETA", "thetax", "thetay")
_MAX_STEPS = 60
_RELATIVE = 0.3  # error of a partiality, about
_CONVERGED = 1e-10  # relative fall of the target


@dataclass(frozen=True, eq=False)
class StillObservations:
    """What a lattice is postrefined with: reflections that the reference has.

    Parameters
    ----------
    nodes
        Reciprocal-lattice nodes A h in the laboratory frame, 1/angstrom, shape (n, 3).
    s0
        Incident wave vector, 1/angstrom, shape (3,).
    observed, variance, reference
        Intensities, their variances, and the reference's intensities, shape (n,).
    """

    nodes: FloatArray
    s0: FloatArray
    observed: FloatArray
    variance: FloatArray
    reference: FloatArray


@dataclass(frozen=True, eq=False)
class Postrefined:
    """Refined parameters of a lattice.

    Parameters
    ----------
    values
        G, B (square angstrom), RS (1/angstrom), ETA, rotations about x and y (radians), shape (6,).
    correlation
        Correlation with the reference of the corrected intensities above the partiality threshold.
    """

    values: FloatArray
    correlation: float

    def factors(self, nodes: FloatArray, s0: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Factor that the reflections of these nodes (n, 3) were weakened by, and their partialities, shape (n,)."""
        scale, partiality = still_factors(self.values, s0, nodes)
        return scale * partiality, partiality


def postrefine(data: StillObservations, config: PostrefinementConfig) -> Postrefined | None:
    """Refine a lattice.

    Returns
    -------
    The refined lattice; None where it left the limits of the configuration, or too little of it is left.
    """
    start = starting_values(data)
    if start is None:
        return None
    free = np.array([name in config.refine for name in PARAMETERS])
    values = _by_lbfgs(start, free, data) if config.algorithm == "rs" else _by_marquardt(start, free, data, config)
    if not _within_limits(values, config):
        return None
    scale, partiality = still_factors(values, data.s0, data.nodes)
    kept = partiality > config.partiality_threshold
    if np.count_nonzero(kept) < config.min_reflections:
        return None
    corrected = data.observed[kept] / (scale * partiality)[kept]
    correlation = correlation_with(corrected, data.reference[kept])
    return Postrefined(values, correlation) if correlation >= config.min_corr else None


def starting_values(data: StillObservations) -> FloatArray | None:
    """Values before refinement, shape (6,): RS is the rms distance from the Ewald sphere, G the slope of a line.

    The slope is that of the observations over reference times partiality, through the origin; None where there is none.
    """
    if len(data.observed) < len(PARAMETERS):
        return None
    distance = np.linalg.norm(data.nodes + data.s0, axis=1) - np.linalg.norm(data.s0)
    radius = float(np.sqrt(np.mean(distance**2)))
    if radius == 0:
        return None
    values = np.array([1.0, 0.0, radius, 0.0, 0.0, 0.0])
    expected = data.reference * still_factors(values, data.s0, data.nodes)[1]
    power = float(expected @ expected)
    slope = float(expected @ data.observed)
    if power == 0 or slope <= 0:
        return None
    values[0] = slope / power
    return values


def _weights(data: StillObservations, weighting: str, start: FloatArray) -> FloatArray:
    """Weights (n,); `relative` lets a reflection count by its signal and not by its strength."""
    if weighting == "relative":
        expected = start[0] * data.reference
        return np.asarray(1.0 / (data.variance + (_RELATIVE * expected) ** 2))
    if weighting == "variance":
        return 1.0 / data.variance
    if weighting == "gentle":
        return np.abs(data.observed) / data.variance
    return np.ones(len(data.observed))


def _by_marquardt(
    start: FloatArray, free: BoolArray, data: StillObservations, config: PostrefinementConfig
) -> FloatArray:
    """Minimize by the method of Levenberg and Marquardt with analytic derivatives."""
    weight = _weights(data, config.target_weighting, start)

    def at(values: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        return postrefine_normal(values, data.s0, data.nodes, data.observed, data.reference, weight)

    values, (target, gradient, normal) = start, at(start)
    damping = 1e-3
    for _ in range(_MAX_STEPS):
        chosen = normal[np.ix_(free, free)]
        size = np.sqrt(np.diag(chosen))
        size[size == 0] = 1.0  # a parameter without effect stays where it is
        step = np.zeros(len(values))
        damped = chosen / np.outer(size, size) + damping * np.eye(len(size))  # so that it always has an inverse
        step[free] = np.linalg.solve(damped, -gradient[free] / size) / size
        trial = values + step
        trial[2] = max(trial[2], 0.1 * values[2])  # the radius stays positive
        trial[3] = max(trial[3], 0.0)
        found = at(trial)
        gain = target - found[0]
        if gain > 0:
            values, (target, gradient, normal) = trial, found
            damping = max(damping / 10.0, 1e-9)
        else:
            damping *= 10.0
        if abs(gain) <= _CONVERGED * target or damping > 1e9:
            break
    return values


def _by_lbfgs(start: FloatArray, free: BoolArray, data: StillObservations) -> FloatArray:
    """Minimize with equal weights by L-BFGS, in units of the curvature at the start."""
    from scipy.optimize import minimize  # takes a tenth of a second to import

    weight = np.ones(len(data.observed))
    first, _, normal = postrefine_normal(start, data.s0, data.nodes, data.observed, data.reference, weight)
    weight /= max(first, 1e-300)  # the target starts at one
    unit = np.sqrt(max(first, 1e-300) / (np.diag(normal) + 1e-300))

    def at(scaled: FloatArray) -> tuple[float, FloatArray]:
        values = start.copy()
        values[free] += scaled * unit[free]
        target, gradient, _ = postrefine_normal(values, data.s0, data.nodes, data.observed, data.reference, weight)
        return target, gradient[free] * unit[free]

    options = {"maxiter": 500, "ftol": _CONVERGED, "gtol": 1e-8}
    found = minimize(at, np.zeros(int(free.sum())), jac=True, method="L-BFGS-B", options=options)
    values = start.copy()
    values[free] += found.x * unit[free]
    return values


def _within_limits(values: FloatArray, config: PostrefinementConfig) -> bool:
    scale, b_factor, radius, eta, theta_x, theta_y = values
    rotation = np.degrees(max(abs(theta_x), abs(theta_y)))
    finite = bool(np.isfinite(values).all())
    return bool(
        finite
        and scale > 0
        and radius > 0
        and eta >= 0
        and abs(b_factor) <= config.max_b_factor
        and rotation <= config.max_rotation_deg
    )
