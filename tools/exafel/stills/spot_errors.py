"""Errors of spots estimated from the data themselves: variances that depend on the spot, and outliers."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from exafel.arrays import BoolArray, FloatArray

MEDIAN_CHI2 = 0.4549  # median of the square of a standard normal deviate
_CLIP = 9.0  # a squared deviation above three standard errors says nothing of the others
_MIN_FOR_OUTLIERS = 8  # with fewer the scale of the good ones is too uncertain
_SLOPE_PRIOR = 1.0  # prior standard deviation of an exponent: spots too few to fit it leave it near zero


def fit_log_variance(
    second_moment: FloatArray, log_covariates: FloatArray, used: BoolArray, iterations: int = 10
) -> FloatArray:
    """Variances whose logarithm is linear in some covariates, by maximum likelihood with a weak prior.

    For each component minimises sum ln v_i + m_i / v_i (normal residuals with second moment m_i) with
    ln v = c_0 + sum_k c_k x_k by Fisher scoring; moments above nine of the present variances, those of
    outliers, do not count.

    Parameters
    ----------
    second_moment
        Squared residuals of several components, shape (n, m).
    log_covariates
        Logarithms of what the variance may depend on as a power law, shape (n, k).
    used
        Rows to fit; the law is evaluated for all, shape (n,).

    Returns
    -------
    ndarray
        Variances, shape (n, m).
    """
    everyone = np.empty((len(log_covariates), 1 + log_covariates.shape[1]))
    everyone[:, 0] = 1.0
    everyone[:, 1:] = log_covariates - log_covariates[used].mean(axis=0)
    design, moment = everyone[used], second_moment[used]
    prior = np.zeros(everyone.shape[1])
    prior[1:] = 2.0 / _SLOPE_PRIOR**2
    covariance = np.linalg.inv(design.T @ design + np.diag(prior))
    coefficients = np.zeros((everyone.shape[1], moment.shape[1]))
    coefficients[0] = np.log(np.maximum(np.median(moment, axis=0) / MEDIAN_CHI2, 1e-300))
    for _ in range(iterations):
        ratio = moment / np.exp(design @ coefficients)
        ratio = np.where(ratio > _CLIP, 1.0, ratio)
        step = covariance @ (design.T @ (ratio - 1.0) - prior[:, None] * coefficients)
        coefficients += np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 0.01:
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
    if n < _MIN_FOR_OUTLIERS:
        return np.zeros(n, dtype=np.bool_)
    half = (n + 1) // 2
    lower = np.partition(squared, half - 1)[:half]
    if degrees == 2:
        mean = (lower.sum() + (n - half) * lower.max()) / half  # squared Rayleigh = exponential, censored
        limit = mean * np.log(n / expected)
    else:
        variance = lower.max() / _chi1_quantile(half / n)
        limit = variance * _chi1_quantile(1.0 - expected / n)
    return np.asarray(squared > max(limit, 1e-300))


def _chi1_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(0.5 + 0.5 * probability) ** 2
