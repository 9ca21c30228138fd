"""Spots as rays: what indexing and refinement need of a shot's spot table, all panels at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import ReflectionTable


@dataclass(frozen=True, eq=False)
class SpotVectors:
    """Observed directions of the diffracted rays of one shot.

    Parameters
    ----------
    s1_unit
        Unit vectors from the sample to the spots, shape (n, 3).
    s0_unit
        Unit vector along the incident beam, shape (3,).
    wave_number
        1 / mean wavelength, 1/angstrom.
    frames
        Rows of frame i: unit vectors towards larger scattering angle, along the azimuth, and along the ray; the last
        is the normal of the Ewald sphere there. Shape (n, 3, 3).
    px_per_rlp
        Pixels on the detector for one 1/angstrom across the ray, shape (n,).
    variance_px2
        Variance of the position along the first two rows of `frames`, px^2, shape (n, 2).
    intensity
        Summed intensity of the spot, shape (n,); positive.
    """

    s1_unit: FloatArray
    s0_unit: FloatArray
    wave_number: float
    frames: FloatArray
    px_per_rlp: FloatArray
    variance_px2: FloatArray
    intensity: FloatArray

    def __len__(self) -> int:
        return len(self.s1_unit)

    @property
    def rlp(self) -> FloatArray:
        """Reciprocal-lattice points s1 - s0 at the mean wavelength, shape (n, 3), 1/angstrom."""
        return self.wave_number * (self.s1_unit - self.s0_unit)

    def select(self, rows: AnyArray) -> SpotVectors:
        """Choose some of the spots, by a mask or by row numbers."""
        return SpotVectors(
            self.s1_unit[rows],
            self.s0_unit,
            self.wave_number,
            self.frames[rows],
            self.px_per_rlp[rows],
            self.variance_px2[rows],
            self.intensity[rows],
        )


def spot_vectors(spots: ReflectionTable, detector: Detector, beam: Beam, *, floor_px: float) -> SpotVectors:
    """Rays of the spots of one shot.

    Parameters
    ----------
    spots
        Needs ``xyzobs.px.value`` and ``panel``; uses ``xyzobs.px.variance`` and ``intensity.sum.value``.
    detector, beam
        Geometry of the shot.
    floor_px
        Smallest standard error of a position that is believed, px.
    """
    panel = spots["panel"].astype(np.int64)
    lab = detector.pixel_to_lab(panel, spots["xyzobs.px.value"][:, :2])
    distance = np.linalg.norm(lab, axis=1)
    s0 = np.asarray(beam.s0 * beam.wavelength_angstrom)
    s1 = lab / distance[:, None]
    frames = _frames(s1, s0)
    pixel = np.array([item.pixel_size_mm for item in detector.panels])[panel]
    wave_number = 1.0 / beam.wavelength_angstrom
    return SpotVectors(
        s1_unit=s1,
        s0_unit=s0,
        wave_number=wave_number,
        frames=frames,
        px_per_rlp=distance / (wave_number * pixel.mean(axis=1)),
        variance_px2=_position_variances(spots, detector, panel, frames) + floor_px**2,
        intensity=_intensities(spots),
    )


def _intensities(spots: ReflectionTable) -> FloatArray:
    """Intensities, from a tenth of their median on: the sum of a spot of noise can be anything, also negative."""
    if "intensity.sum.value" not in spots:
        return np.ones(len(spots))
    intensity = np.asarray(spots["intensity.sum.value"], dtype=np.float64)
    positive = intensity[intensity > 0]
    floor = 0.1 * float(np.median(positive)) if len(positive) else 1.0
    return np.maximum(intensity, floor)


def _frames(s1: FloatArray, s0: FloatArray) -> FloatArray:
    across = np.cross(s0, s1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    any_normal = np.cross(s0, np.eye(3)[np.argmin(np.abs(s0))])  # a spot in the direct beam has no azimuth
    across = np.where(length > 1e-9, across / np.maximum(length, 1e-9), any_normal / np.linalg.norm(any_normal))
    return np.stack([np.cross(across, s1), across, s1], axis=1)


def _position_variances(spots: ReflectionTable, detector: Detector, panel: IntArray, frames: FloatArray) -> FloatArray:
    if "xyzobs.px.variance" not in spots:
        return np.zeros((len(spots), 2))
    axes = np.array([[item.fast_axis, item.slow_axis] for item in detector.panels])[panel]
    cosines = np.einsum("nij,nkj->nik", frames[:, :2], axes)
    cosines /= np.linalg.norm(cosines, axis=2, keepdims=True)
    variance = np.clip(spots["xyzobs.px.variance"][:, :2], 0.0, None)
    return np.asarray(np.einsum("nik,nk->ni", cosines**2, variance))
