"""The size of spots on the detector: radial and tangential, from the strong spots of a lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import Flag, ReflectionTable

_CHI2_MEDIAN = 0.4549
"""Median of the square of a standard normal number."""


@dataclass(frozen=True)
class SpotProfile:
    """Gaussian profile in pixels about the predicted position.

    Parameters
    ----------
    radial_px, tangential_px
        Standard deviations away from the beam centre and across.
    """

    radial_px: float
    tangential_px: float

    def as_dials(self, detector: Detector, n_sigma: float) -> dict[str, object]:
        """Return the profile as DIALS stores one: its mean angular width, as sigma_b in degrees, on the first panel."""
        panel = detector[0]
        width_mm = float(np.sqrt(self.radial_px * self.tangential_px)) * panel.pixel_size_mm[0]
        sigma_b = float(np.degrees(np.arctan2(width_mm, abs(panel.distance_mm))))
        return {"__id__": "gaussian_rs", "n_sigma": n_sigma, "sigma_b": sigma_b, "sigma_m": 0.0}


def radial_directions(panel: AnyArray, xy_px: FloatArray, detector: Detector, beam: Beam) -> FloatArray:
    """Unit vectors, in pixels along fast and slow, that point away from the beam centre, shape (n, 2)."""
    axes = np.array([[item.fast_axis, item.slow_axis] for item in detector.panels])[panel.astype(np.int64)]
    lab = detector.pixel_to_lab(panel, xy_px)
    s0 = beam.s0 / np.linalg.norm(beam.s0)
    away = lab - (lab @ s0)[:, None] * s0
    direction = np.einsum("nij,nj->ni", axes, away)
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    return np.where(length > 1e-9, direction / np.maximum(length, 1e-9), [1.0, 0.0])


def estimate_profile(indexed: ReflectionTable, detector: Detector, beam: Beam, *, min_sigma_px: float) -> SpotProfile:
    """Estimate the profile from strong spots: their own width and their scatter about the predictions.

    Parameters
    ----------
    indexed
        Indexed spots with ``xyzobs.px.value``, ``xyzcal.px``, ``moments.px`` (second moments xx, xy, yy about the
        centroid) and ``flags``; only those used in refinement count.
    min_sigma_px
        Smallest standard deviation.

    Notes
    -----
    Medians, so that a few wrong spots do not matter: of the spots' variances, and of the squared residuals scaled to
    those of a normal law.
    """
    used = indexed.select(indexed.has_flag(Flag.USED_IN_REFINEMENT))
    radial = radial_directions(used["panel"], used["xyzobs.px.value"][:, :2], detector, beam)
    tangential = np.column_stack([-radial[:, 1], radial[:, 0]])
    residual = (used["xyzobs.px.value"] - used["xyzcal.px"])[:, :2]
    sigma = [_sigma(direction, residual, used["moments.px"], min_sigma_px) for direction in (radial, tangential)]
    return SpotProfile(*sigma)


def _sigma(direction: FloatArray, residual: FloatArray, moments: FloatArray, smallest: float) -> float:
    x, y = direction.T
    width = moments[:, 0] * x**2 + 2 * moments[:, 1] * x * y + moments[:, 2] * y**2
    scatter = (residual * direction).sum(axis=1) ** 2
    if not len(x):
        return smallest
    return float(np.sqrt(max(np.median(width) + np.median(scatter) / _CHI2_MEDIAN, smallest**2)))


def foreground_shapes(
    predicted: ReflectionTable, profile: SpotProfile, detector: Detector, beam: Beam, *, n_sigma: float
) -> FloatArray:
    """Position and quadratic form of each reflection's foreground, shape (n, 5): x, y, mxx, mxy, myy.

    A pixel at the offset v from the position is in the foreground where v^T M v <= 1.
    """
    xy = predicted["xyzcal.px"][:, :2]
    x, y = radial_directions(predicted["panel"], xy, detector, beam).T
    p, q = 1.0 / (n_sigma * profile.radial_px) ** 2, 1.0 / (n_sigma * profile.tangential_px) ** 2
    return np.column_stack([xy, p * x**2 + q * y**2, (p - q) * x * y, p * y**2 + q * x**2])
