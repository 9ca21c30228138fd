"""Refinement of a lattice's orientation and symmetry-constrained cell against the spots of one still.

The residual of a spot is the vector r_calc - r_obs with r_calc = A h, taken in the frame of the observed ray: along
the scattering angle, along the azimuth (both are positions on the detector) and along the ray, where it is the
distance of the reciprocal-lattice point from the Ewald sphere, that is delta-psi times |r| cos(theta). All three are
linear in A for a given wavelength. Each has a variance of its own, estimated from the residuals: what a spectrum or a
mosaic spread does to the radial direction and to the distance from the sphere does not harm the azimuth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import BoolArray, FloatArray, IntArray
from exafel.config.indexing import RefinementConfig
from exafel.io.geometry import Beam
from exafel.stills.cell_symmetry import (
    invariant_metrics,
    lattice_points,
)
from exafel.stills.setting import CellRestraint, move_setting, restraint_terms, setting_derivatives
from exafel.stills.spectrum import (
    WaveNumbers,
    estimate_bandwidth,
    gaussian_spectrum,
    selected_wave_numbers,
    wave_numbers,
)
from exafel.stills.spot_errors import fit_log_variance, rayleigh_outliers
from exafel.stills.spot_vectors import SpotVectors

_GROWTH = 1.3  # of the resolution limit from one round to the next
_SPOTS_PER_PARAMETER = 4  # with which refinement starts, beyond the resolution to start with if need be
_HUBER = 3.0  # standard errors from which on a residual counts linearly
_LONGEST_STEP = 0.08  # rad, or strain: six such strains leave a metric positive
_SMALLEST_VARIANCE = 1e-24  # 1/angstrom^2, far below any real one: spots may coincide
_CONVERGED = 1e-5  # relative change of the setting matrix, far below its error


@dataclass(frozen=True, eq=False)
class Refined:
    """A lattice fitted to spots.

    Parameters
    ----------
    A
        Setting matrix, shape (3, 3).
    rows
        Spots with an index, as row numbers of the spots given.
    hkl
        Their indices, shape (n, 3).
    used
        Which of them are no outliers, shape (n,).
    wave_number
        Wave number that each spot selects of the spectrum, shape (n,), 1/angstrom.
    residual
        Radial and azimuthal displacement, calculated minus observed (px), and distance from the Ewald sphere
        (1/angstrom), shape (n, 3).
    spread
        Standard deviations of the three displacements that the fit gives each spot, 1/angstrom, shape (n, 3).
    """

    A: FloatArray
    rows: IntArray
    hkl: IntArray
    used: BoolArray
    wave_number: FloatArray
    residual: FloatArray
    spread: FloatArray

    @property
    def n_used(self) -> int:
        """Number of spots that fit."""
        return int(np.count_nonzero(self.used))


def refine_lattice(
    A: FloatArray,
    hall: str,
    spots: SpotVectors,
    beam: Beam,
    config: RefinementConfig,
    *,
    hkl_tolerance: float,
    restraint: CellRestraint,
    d_min_start: float,
) -> Refined | None:
    """Refine a setting matrix; re-index, to ever higher resolution, and reject outliers until nothing changes.

    Parameters
    ----------
    A
        Setting matrix to start from, its cell obeying the symmetry, shape (3, 3).
    hall
        Hall symbol of the space group.
    spots
        All spots that the lattice may index.
    beam
        Beam of the shot, for its spectrum.
    config
        What is refined, and how long.
    hkl_tolerance
        Largest distance of a spot's fractional index from an integer.
    restraint
        What is known of the cell.
    d_min_start
        Resolution up to which `A` is believed to index well, angstrom.

    Returns
    -------
    Refined or None
        None where too few spots are left to determine the parameters.
    """
    spectrum = wave_numbers(beam) if config.use_spectrum else None
    metrics = invariant_metrics(hall) if config.refine_cell else np.zeros((0, 3, 3))
    n_needed = 3 + len(metrics)
    sizes = np.sort(np.linalg.norm(spots.rlp, axis=1))
    if len(sizes) < n_needed:
        return None
    finest = float(sizes[-1])
    limit = max(1.0 / d_min_start, float(sizes[min(_SPOTS_PER_PARAMETER * n_needed, len(sizes)) - 1]))
    outlier = np.zeros(len(spots), dtype=np.bool_)
    state: Refined | None = None
    for _ in range(config.max_macrocycles):
        rows, hkl = _assign(A, hall, spots, hkl_tolerance, limit)
        fit = _Fit(hkl, spots.select(rows), ~outlier[rows], spectrum, config)
        if fit.prepare(A, n_needed):
            A = _minimise(A, metrics, fit, config, restraint)
        if not fit.prepare(A, n_needed):
            if limit >= finest:
                return None
            limit = min(limit * _GROWTH, finest)
            continue
        outlier[rows] = ~fit.used
        current = Refined(A, rows, hkl, fit.used, fit.wave_number, fit.displacement_px(A), np.sqrt(fit.variance))
        if limit >= finest and state is not None and _unchanged(state, current):
            return current
        state = current
        limit = min(limit * _GROWTH, finest)
    return state


class _Fit:
    """Indexed spots, with the errors and wave numbers that the present setting matrix gives them."""

    def __init__(
        self,
        hkl: IntArray,
        spots: SpotVectors,
        used: BoolArray,
        spectrum: WaveNumbers | None,
        config: RefinementConfig,
    ) -> None:
        self.hkl = hkl.astype(np.float64)
        self.spots = spots
        self._spectrum = spectrum
        self._config = config
        self.used = used if 2 * np.count_nonzero(used) > len(used) else np.ones(len(hkl), dtype=np.bool_)
        self.wave_number = np.full(len(hkl), spots.wave_number)
        self.variance = np.ones((len(hkl), 3))
        self._covariates = np.log(
            np.column_stack([spots.intensity, np.linalg.norm(spots.rlp, axis=1), spots.variance_px2.mean(axis=1)])
        )

    def displacement(self, A: FloatArray, wave_number: FloatArray) -> FloatArray:
        """Return r_calc - r_obs in the frames of the observed rays, 1/angstrom, shape (n, 3)."""
        observed = wave_number[:, None] * (self.spots.s1_unit - self.spots.s0_unit)
        return np.asarray(np.einsum("nij,nj->ni", self.spots.frames, self.hkl @ A.T - observed))

    def displacement_px(self, A: FloatArray) -> FloatArray:
        """Return the displacements with the two on the detector in px, shape (n, 3)."""
        displacement = self.displacement(A, self.wave_number)
        displacement[:, :2] *= self.spots.px_per_rlp[:, None]
        return displacement

    def prepare(self, A: FloatArray, n_needed: int) -> bool:
        """Estimate wave numbers, variances and outliers; False where too few spots are left."""
        if len(self.hkl) < n_needed:
            return False
        mean_k = np.full(len(self.hkl), self.spots.wave_number)
        displacement = self.displacement(A, mean_k)
        distance = displacement[:, 2]
        channels = self._channels(displacement)
        spread: FloatArray | float = 0.0
        if channels is not None:
            total = self._variances(distance[:, None] ** 2)[:, 0]
            self.wave_number, spread = selected_wave_numbers(channels, distance, self.spots, total)
            displacement = self.displacement(A, self.wave_number)
        moments = displacement**2
        moments[:, 2] += spread
        self.variance = np.maximum(self._variances(moments), _SMALLEST_VARIANCE)
        z2 = displacement**2 / self.variance
        if self._config.outlier_rejection == "sauter_poon":
            self.used = ~(rayleigh_outliers(z2[:, 0] + z2[:, 1]) | rayleigh_outliers(z2[:, 2], degrees=1))
        return int(np.count_nonzero(self.used)) >= n_needed

    def _channels(self, displacement: FloatArray) -> WaveNumbers | None:
        if self._spectrum is not None or not self._config.estimate_bandwidth:
            return self._spectrum
        sigma = estimate_bandwidth(displacement, self.spots, self.used)
        return gaussian_spectrum(sigma) if sigma > 0 else None

    def _variances(self, moments: FloatArray) -> FloatArray:
        return fit_log_variance(moments, self._covariates, self.used)


def _minimise(
    A: FloatArray, metrics: FloatArray, fit: _Fit, config: RefinementConfig, restraint: CellRestraint
) -> FloatArray:
    """Levenberg-Marquardt on rotation and metric with Huber weights; errors, wave numbers and outliers held."""
    damping = 1e-6
    cost, gradient, hessian = _normal_equations(A, metrics, fit, restraint)
    for _ in range(config.max_iterations):
        step = np.asarray(np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient))
        trial = move_setting(A, metrics, np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))
        new_cost, new_gradient, new_hessian = _normal_equations(trial, metrics, fit, restraint)
        if new_cost > cost * (1 + 1e-12):
            damping = max(damping * 10.0, 1e-4)
            if damping > 1e6:
                break
            continue
        small = cost - new_cost < 1e-4 * cost + 1e-9
        A, cost, gradient, hessian = trial, new_cost, new_gradient, new_hessian
        damping *= 0.1
        if small:
            break
    return A


def _normal_equations(
    A: FloatArray, metrics: FloatArray, fit: _Fit, restraint: CellRestraint
) -> tuple[float, FloatArray, FloatArray]:
    """Cost (half the sum of Huber losses and the restraint), its gradient and Gauss-Newton matrix."""
    z = fit.displacement(A, fit.wave_number)[fit.used] / np.sqrt(fit.variance[fit.used])
    size = np.abs(z)
    cost = 0.5 * np.where(size <= _HUBER, z**2, _HUBER * (2 * size - _HUBER)).sum()
    weight = np.minimum(1.0, _HUBER / np.maximum(size, 1e-12))
    r = fit.hkl[fit.used] @ A.T
    derivative = np.einsum("pij,nj->pni", setting_derivatives(A, metrics), r)
    J = np.einsum("nij,pnj->nip", fit.spots.frames[fit.used], derivative) / np.sqrt(fit.variance[fit.used])[:, :, None]
    flat = J.reshape(-1, J.shape[2])
    weighted = flat * weight.reshape(-1, 1)
    gradient = weighted.T @ z.ravel()
    hessian = weighted.T @ flat
    if len(metrics):
        prior = restraint_terms(A, metrics, restraint)
        cost, gradient[3:], hessian[3:, 3:] = cost + prior[0], gradient[3:] + prior[1], hessian[3:, 3:] + prior[2]
    return float(cost), gradient, hessian


def _assign(A: FloatArray, hall: str, spots: SpotVectors, tolerance: float, limit: float) -> tuple[IntArray, IntArray]:
    """Rows of the spots near integer indices up to a resolution, and the indices."""
    rlp = spots.rlp
    fractional = rlp @ np.linalg.inv(A).T
    hkl = np.rint(fractional)
    near = np.abs(fractional - hkl).max(axis=1) < tolerance
    near &= (np.linalg.norm(rlp, axis=1) <= limit * (1 + 1e-9)) & hkl.any(axis=1)
    near &= lattice_points(hkl, hall)
    rows = np.flatnonzero(near)
    return rows, hkl[rows].astype(np.int64)


def _unchanged(before: Refined, after: Refined) -> bool:
    same = np.array_equal(before.rows, after.rows) and np.array_equal(before.used, after.used)
    return same and float(np.abs(after.A - before.A).max()) < _CONVERGED * float(np.abs(after.A).max())
