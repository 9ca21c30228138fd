"""Mosaicity of a lattice from the angles by which its reflections miss the Ewald sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import FloatArray
from exafel.config.indexing import MosaicityConfig


@dataclass(frozen=True)
class Mosaicity:
    """Result of the mosaicity fit.

    Parameters
    ----------
    half_mosaicity_deg
        Half of the full angular spread of the mosaic blocks, deg; 0 where the data show none.
    domain_size_angstrom
        Size of a mosaic block as DIALS counts it, such that d / size is the half width in angle that it gives; None
        where the data do not determine it.
    degenerate
        Whether the fit ran to a bound of the domain size, or there were too few spots for two parameters.
    """

    half_mosaicity_deg: float
    domain_size_angstrom: float | None
    degenerate: bool = False


def fit_mosaicity(delta_psi: FloatArray, d: FloatArray, config: MosaicityConfig) -> Mosaicity:
    """Maximum-likelihood half mosaicity and domain size.

    A block of finite size smears a reciprocal-lattice point, at the distance 1/d from the origin, over an angle
    proportional to d; misorientation of the blocks adds a full spread eta. So a reflection is excited where
    |delta_psi| is below the half width w = eta / 2 + d / D (Nave 2014, J. Synchrotron Rad. 21, 537; Sauter et al.
    2014, Acta Cryst. D70, 3299). That defines D as the number that DIALS fits and writes; a point smeared over 1/L in
    all makes D = 2 L. We take delta_psi as normal with the variance of a flat distribution over (-w, w), w^2 / 3,
    which has tails for the few reflections beyond, and maximise the likelihood in (eta / 2, 1 / D), both kept within
    bounds, by Fisher scoring.

    Parameters
    ----------
    delta_psi
        Angles, shape (n,), rad.
    d
        Resolution, shape (n,), angstrom.
    config
        Bounds.
    """
    bounds = np.array(
        [
            [0.0, np.radians(config.max_half_mosaicity_deg)],
            [1.0 / config.max_domain_size_angstrom, 1.0 / config.min_domain_size_angstrom],
        ]
    )
    if len(d) < 4:
        spread = float(np.sqrt(3.0 * np.mean(delta_psi**2))) if len(d) else 0.0
        return Mosaicity(float(np.degrees(min(spread, bounds[0, 1]))), None, degenerate=True)
    eta_half, inverse = _most_likely(3.0 * delta_psi**2, np.column_stack([np.ones(len(d)), d]), bounds)
    at_bound = bool(inverse <= bounds[1, 0] * (1 + 1e-6) or inverse >= bounds[1, 1] * (1 - 1e-6))
    return Mosaicity(float(np.degrees(eta_half)), None if at_bound else float(1.0 / inverse), degenerate=at_bound)


def _most_likely(moment: FloatArray, design: FloatArray, bounds: FloatArray) -> FloatArray:
    """Minimise sum ln w + m / (2 w^2) over w = design x within bounds: the inner optimum and those on each edge."""
    scale = float(np.sqrt(moment.mean()))
    starts = [np.array([0.5 * scale, 0.5 * scale / design[:, 1].mean()])]
    best, best_cost = starts[0], np.inf
    for held in ((), ((0, 0),), ((1, 0),), ((1, 1),)):
        x = np.clip(starts[0], bounds[:, 0], bounds[:, 1])
        free = np.ones(2, dtype=np.bool_)
        for parameter, side in held:
            x[parameter] = bounds[parameter, side]
            free[parameter] = False
        x = _score(moment, design, x, free, bounds)
        width = design @ x
        cost = float((np.log(width) + 0.5 * moment / width**2).sum())
        if cost < best_cost:
            best, best_cost = x, cost
    return best


def _score(moment: FloatArray, design: FloatArray, x: FloatArray, free: np.ndarray, bounds: FloatArray) -> FloatArray:
    floor = 1e-9
    for _ in range(50):
        width = np.maximum(design @ x, floor)
        gradient = design.T @ (1.0 / width - moment / width**3)
        information = (design / width[:, None] ** 2).T @ design * 2.0
        step = np.zeros(2)
        step[free] = -np.linalg.solve(information[np.ix_(free, free)], gradient[free])
        new = np.clip(x + step, np.maximum(bounds[:, 0], 0.3 * x * free), bounds[:, 1])
        new = np.clip(new, bounds[:, 0], bounds[:, 1])
        if np.abs(new - x).max() < 1e-6 * np.abs(x).max() * 1e-3:
            return new
        x = new
    return x
