"""Errors of spots estimated from the data themselves: variances that depend on the spot, and outliers."""

from __future__ import annotations

import numpy as np

from exafel.arrays import BoolArray, FloatArray

_CLIP = 9.0  # a squared deviation above three standard errors tells nothing more about the others
_SLOPE_PRIOR = 1.0  # prior standard deviation of an exponent: spots too few to fit it leave it near zero


def fit_log_variance(
    second_moment: FloatArray, log_covariates: FloatArray, used: BoolArray, iterations: int = 8
) -> FloatArray:
    """Variances whose logarithm is linear in some covariates, by maximum likelihood with a weak prior.

    Minimises sum ln v_i + m_i / v_i (normal residuals with second moment m_i) with ln v = c_0 + sum_k c_k x_k by
    Fisher scoring; moments above nine variances are clipped.

    Parameters
    ----------
    second_moment
        Squared residuals, shape (n,).
    log_covariates
        Logarithms of what the variance may depend on as a power law, shape (n, k).
    used
        Rows to fit; the law is evaluated for all, shape (n,).

    Returns
    -------
    ndarray
        Variances, shape (n,).
    """
    n = len(second_moment)
    centred = log_covariates - log_covariates[used].mean(axis=0)
    everyone = np.column_stack([np.ones(n), centred])
    design, moment = everyone[used], second_moment[used]
    # The median of a squared normal deviate is 0.455 of its variance.
    start = max(float(np.median(moment)) / 0.455, 1e-300)
    coefficients = np.zeros(design.shape[1])
    coefficients[0] = np.log(start)
    prior = np.diag([0.0] + [2.0 / _SLOPE_PRIOR**2] * log_covariates.shape[1])
    information = design.T @ design + prior
    variance = np.full(len(moment), start)
    for _ in range(iterations):
        ratio = np.minimum(moment / variance, _CLIP)
        step = np.linalg.solve(information, design.T @ (ratio - 1.0) - prior @ coefficients)
        coefficients += np.clip(step, -1.0, 1.0)
        variance = np.exp(design @ coefficients)
        if np.abs(step).max() < 1e-3:
            break
    return np.asarray(np.exp(everyone @ coefficients))


def rayleigh_outliers(squared: FloatArray, degrees: int = 2, expected: float = 0.1) -> BoolArray:
    """Spots whose displacement is too large for the law that the others follow.

    After Sauter & Poon (2010), J. Appl. Cryst. 43, 611: the displacements of a lattice's spots follow a Rayleigh
    (two components) or half-normal law (one), those of foreign spots do not. The scale is the maximum-likelihood
    one given the smaller half of the displacements alone (a sample censored at its median, which outliers cannot
    reach while they are fewer than half); rejected is what lies beyond the displacement where that law expects
    fewer than `expected` of all the spots.

    Parameters
    ----------
    squared
        Squared displacements, in units of their variances where these differ, shape (n,).
    degrees
        Number of components in a displacement: 2 Rayleigh, 1 half-normal.
    expected
        Number of good spots that may be lost.

    Returns
    -------
    ndarray of bool
        True for an outlier, shape (n,).
    """
    n = len(squared)
    if n < 4:
        return np.zeros(n, dtype=np.bool_)
    half = (n + 1) // 2
    lower = np.partition(squared, half - 1)[:half]
    if degrees == 2:
        mean = (lower.sum() + (n - half) * lower.max()) / half  # squared Rayleigh = exponential, censored
        limit = mean * np.log(n / expected)
    else:
        variance = lower.max() / _chi1_median(half / n)
        limit = variance * _chi1_quantile(1.0 - expected / n)
    return np.asarray(squared > max(limit, 1e-300))


def _chi1_quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + 0.5 * probability)) ** 2


_chi1_median = _chi1_quantile
