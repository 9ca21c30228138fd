"""Panels, detectors and beams in the laboratory frame of dxtbx (mm; the beam travels along ``s0``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray

EV_ANGSTROM = 12398.419843320026
"""Photon energy (eV) times wavelength (angstrom): h c / e, CODATA 2018 (exact in the SI of 2019)."""


def _vector(value: Sequence[float] | FloatArray) -> FloatArray:
    array = np.asarray(value, dtype=np.float64)
    array.setflags(write=False)
    return array


def rotation_matrix(axis: FloatArray, angle_rad: float) -> FloatArray:
    """Rotation by `angle_rad` about the unit vector `axis` (Rodrigues), shape (3, 3)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    turn: FloatArray = np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross
    return turn


@dataclass(frozen=True, eq=False)
class Panel:
    """One flat detector panel.

    Pixel coordinates are (fast, slow) in pixels; the centre of the first pixel is at (0.5, 0.5).

    Parameters
    ----------
    name
        Name of the panel.
    origin_mm
        Laboratory position of the outer corner of the first pixel, shape (3,), mm.
    fast_axis, slow_axis
        Unit vectors along increasing fast and slow pixel index, shape (3,).
    pixel_size_mm
        Pixel size along fast and slow, mm.
    image_size
        Number of pixels along fast and slow.
    trusted_range
        Smallest and largest value that can be trusted, both trusted.
    thickness_mm, mu_per_mm, material
        Sensor: its thickness, its linear absorption coefficient at the wavelength in use, its element.
    parallax
        Whether pixel positions are corrected for the depth at which photons are absorbed.
    gain
        Detector counts (ADU) for one photon.
    mask_rectangles
        Untrusted rectangles (fast0, slow0, fast1, slow1), ends not included.
    """

    name: str
    origin_mm: FloatArray
    fast_axis: FloatArray
    slow_axis: FloatArray
    pixel_size_mm: tuple[float, float]
    image_size: tuple[int, int]
    trusted_range: tuple[float, float] = (0.0, 65535.0)
    thickness_mm: float = 0.0
    mu_per_mm: float = 0.0
    material: str = ""
    parallax: bool = False
    gain: float = 1.0
    pedestal: float = 0.0
    mask_rectangles: tuple[tuple[int, int, int, int], ...] = ()
    kind: str = "SENSOR_PAD"
    identifier: str = ""

    def __post_init__(self) -> None:
        for name in ("origin_mm", "fast_axis", "slow_axis"):
            object.__setattr__(self, name, _vector(getattr(self, name)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the panel's array: (slow, fast)."""
        return self.image_size[1], self.image_size[0]

    @cached_property
    def normal(self) -> FloatArray:
        """Unit normal, fast x slow, shape (3,)."""
        return _vector(np.asarray(np.cross(self.fast_axis, self.slow_axis), dtype=np.float64))

    @cached_property
    def distance_mm(self) -> float:
        """Signed distance of the sample from the panel's plane along `normal`, mm."""
        return float(self.origin_mm @ self.normal)

    @cached_property
    def d_matrix(self) -> FloatArray:
        """Matrix with columns fast, slow, origin: maps (x_mm, y_mm, 1) to the laboratory, shape (3, 3)."""
        return _vector(np.column_stack([self.fast_axis, self.slow_axis, self.origin_mm]))

    @cached_property
    def inverse_d_matrix(self) -> FloatArray:
        """Inverse of `d_matrix`; applied to a ray it gives (x, y, 1) times a scale, shape (3, 3)."""
        return _vector(np.asarray(np.linalg.inv(self.d_matrix), dtype=np.float64))

    def pixel_to_mm(self, xy_px: FloatArray) -> FloatArray:
        """Positions on the panel in mm from pixels, shape (n, 2), with the parallax correction where it is on."""
        xy = np.asarray(xy_px, dtype=np.float64) * self.pixel_size_mm
        return xy - self._parallax_shift_mm(xy) if self.parallax else xy

    def mm_to_pixel(self, xy_mm: FloatArray) -> FloatArray:
        """Positions in pixels from mm, shape (n, 2); the other direction of `pixel_to_mm`."""
        xy = np.asarray(xy_mm, dtype=np.float64)
        return (xy + self._parallax_shift_mm(xy) if self.parallax else xy) / self.pixel_size_mm

    def pixel_to_lab(self, xy_px: FloatArray) -> FloatArray:
        """Laboratory positions in mm of pixel positions (n, 2), shape (n, 3)."""
        xy = self.pixel_to_mm(xy_px)
        return self.origin_mm + xy[:, :1] * self.fast_axis + xy[:, 1:2] * self.slow_axis

    def ray_to_pixel(self, rays: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Where rays from the sample meet the panel's plane.

        Parameters
        ----------
        rays
            Directions of any length, shape (n, 3).

        Returns
        -------
        xy_px
            Pixel positions, shape (n, 2); NaN where the ray goes away from the plane.
        inside
            Whether the position lies on the panel, shape (n,).
        """
        v = np.asarray(rays, dtype=np.float64) @ self.inverse_d_matrix.T
        ahead = v[:, 2] > 1e-12 * np.abs(v).max(axis=1, initial=1e-300)
        xy_mm = np.full((len(v), 2), np.nan)
        xy_mm[ahead] = v[ahead, :2] / v[ahead, 2:]
        xy = self.mm_to_pixel(xy_mm)
        inside = ahead & (xy[:, 0] >= 0) & (xy[:, 1] >= 0)
        inside &= (xy[:, 0] < self.image_size[0]) & (xy[:, 1] < self.image_size[1])
        return xy, inside

    def _parallax_shift_mm(self, xy_mm: FloatArray) -> FloatArray:
        """Shift along the panel from entering the sensor to the mean depth of absorption, shape (n, 2), mm."""
        ray = self.origin_mm + xy_mm[:, :1] * self.fast_axis + xy_mm[:, 1:2] * self.slow_axis
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        path = self.thickness_mm / np.abs(ray @ self.normal)
        depth = 1 / self.mu_per_mm - (path + 1 / self.mu_per_mm) * np.exp(-self.mu_per_mm * path)
        shift: FloatArray = depth[:, None] * np.column_stack([ray @ self.fast_axis, ray @ self.slow_axis])
        return shift

    def trusted_mask(self, data: AnyArray) -> BoolArray:
        """Return True where `data` of shape (slow, fast) lies in the trusted range and in no masked rectangle."""
        low, high = self.trusted_range
        mask: BoolArray = (data >= low) & (data <= high)
        for fast0, slow0, fast1, slow1 in self.mask_rectangles:
            mask[max(slow0, 0) : max(slow1, 0), max(fast0, 0) : max(fast1, 0)] = False
        return mask


@dataclass(frozen=True, eq=False)
class Detector:
    """Panels in their order; the hierarchy they came from is kept only as far as files need it."""

    panels: tuple[Panel, ...]
    hierarchy: dict[str, object] | None = None

    def __len__(self) -> int:
        return len(self.panels)

    def __getitem__(self, index: int) -> Panel:
        return self.panels[index]

    @property
    def n_pixels(self) -> int:
        """Number of pixels of all panels."""
        return sum(panel.image_size[0] * panel.image_size[1] for panel in self.panels)

    def fingerprint(self) -> bytes:
        """Hash that two detectors share exactly if all fields of their panels are the same."""
        digest = hashlib.sha256()
        for panel in self.panels:
            for name in panel.__dataclass_fields__:
                value = getattr(panel, name)
                digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return digest.digest()

    def pixel_to_lab(self, panel: AnyArray, xy_px: FloatArray) -> FloatArray:
        """Laboratory positions (n, 3) in mm of pixel positions (n, 2) on the panels numbered `panel` (n,)."""
        lab = np.empty((len(panel), 3))
        for number in np.unique(panel):
            chosen = panel == number
            lab[chosen] = self.panels[int(number)].pixel_to_lab(np.asarray(xy_px)[chosen])
        return lab

    def ray_to_pixel(self, rays: FloatArray) -> tuple[AnyArray, FloatArray]:
        """Panel and pixel position that rays (n, 3) meet first: panel (n,), -1 for none, and xy_px (n, 2)."""
        hit = np.full(len(rays), -1, dtype=np.int64)
        xy = np.full((len(rays), 2), np.nan)
        for number, panel in enumerate(self.panels):
            position, inside = panel.ray_to_pixel(rays)
            new = inside & (hit < 0)
            hit[new] = number
            xy[new] = position[new]
        return hit, xy


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Energy channels of one shot.

    Parameters
    ----------
    wavelengths_angstrom, weights
        Shape (n,); the weights have any scale.
    """

    wavelengths_angstrom: FloatArray
    weights: FloatArray

    def mean_wavelength(self) -> float:
        """Wavelength of the weighted mean energy, angstrom."""
        energy = np.average(EV_ANGSTROM / self.wavelengths_angstrom, weights=self.weights)
        return float(EV_ANGSTROM / energy)


@dataclass(frozen=True, eq=False)
class Beam:
    """The incident beam of one shot.

    Parameters
    ----------
    wavelength_angstrom
        Mean wavelength.
    direction
        Unit vector from the sample to the source, shape (3,), as dxtbx stores it.
    polarization_fraction, polarization_normal
        Fraction (0.5 is unpolarized) and unit normal of the plane of polarization.
    spectrum
        Energy channels, where they were recorded.
    """

    wavelength_angstrom: float
    direction: FloatArray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    polarization_fraction: float = 0.999
    polarization_normal: FloatArray = field(default_factory=lambda: np.array([0.0, 1.0, 0.0]))
    divergence_deg: float = 0.0
    sigma_divergence_deg: float = 0.0
    flux: float = 0.0
    transmission: float = 1.0
    spectrum: Spectrum | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _vector(self.direction))
        object.__setattr__(self, "polarization_normal", _vector(self.polarization_normal))

    @cached_property
    def s0(self) -> FloatArray:
        """Incident wave vector of length 1/wavelength, 1/angstrom, shape (3,)."""
        return _vector(-self.direction / (np.linalg.norm(self.direction) * self.wavelength_angstrom))

    def reciprocal(self, lab_mm: FloatArray) -> FloatArray:
        """Reciprocal-space positions s1 - s0 (n, 3), 1/angstrom, of laboratory positions (n, 3)."""
        s1 = lab_mm / np.linalg.norm(lab_mm, axis=1, keepdims=True) / self.wavelength_angstrom
        return np.asarray(s1 - self.s0)
