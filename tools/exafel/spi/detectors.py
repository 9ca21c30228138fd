"""Where the pixels of a simulated detector are, and what they read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.config.simulate_spi import (
    AutorangingReadout,
    PanelList,
    PlainReadout,
    PnccdDetector,
    SpiDetector,
    SquareDetector,
)


@dataclass(frozen=True, eq=False)
class PixelPlaces:
    """Pixels in the laboratory: z along the beam, the particle at the origin, millimetres.

    Parameters
    ----------
    centre_mm
        Shape (panels, rows, columns, 3).
    pixel_mm
        Edge of a pixel.
    good
        False where a pixel can see nothing, shape (panels, rows, columns).
    index_map
        Row and column of every pixel in one assembled picture, shape (panels, rows, columns, 2).
    """

    centre_mm: FloatArray
    pixel_mm: float
    good: BoolArray
    index_map: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Panels, rows, columns."""
        return self.centre_mm.shape[:-1]

    def points(self, oversample: int) -> FloatArray:
        """Points that sample every pixel's area, shape (pixels, oversample², 3)."""
        line = ((np.arange(oversample) + 0.5) / oversample - 0.5) * self.pixel_mm
        y, x = np.meshgrid(line, line, indexing="ij")
        offsets = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)
        return np.asarray(self.centre_mm.reshape(-1, 1, 3) + offsets, dtype=np.float64)

    def solid_angle(self) -> FloatArray:
        """Solid angle of every pixel in steradian, shape (pixels,)."""
        centre = self.centre_mm.reshape(-1, 3)
        distance = np.linalg.norm(centre, axis=1)
        return np.asarray(self.pixel_mm**2 * centre[:, 2] / distance**3, dtype=np.float64)


def scattering_vectors(points_mm: FloatArray, wavelength_angstrom: float) -> FloatArray:
    """(unit(point) - beam) / wavelength in 1/angstrom, shape (..., 3) to (3, n)."""
    points = points_mm.reshape(-1, 3)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray((unit - [0.0, 0.0, 1.0]).T / wavelength_angstrom, dtype=np.float64)


def polarization(points_mm: FloatArray, fraction_x: float) -> FloatArray:
    """Polarization factor at points, shape (n, 3) to (n,), for a beam with a fraction polarized along x."""
    unit = points_mm / np.linalg.norm(points_mm, axis=-1, keepdims=True)
    factor = fraction_x * (1 - unit[..., 0] ** 2) + (1 - fraction_x) * (1 - unit[..., 1] ** 2)
    return np.asarray(factor, dtype=np.float64)


def pixel_places(config: SpiDetector) -> PixelPlaces:
    """Lay out a detector."""
    if isinstance(config, SquareDetector):
        pixel = config.side_mm / config.size_px
        return _places([((0.0, 0.0, config.distance_mm), (config.size_px, config.size_px))], pixel)
    if isinstance(config, PnccdDetector):
        return _pnccd(config)
    assert isinstance(config, PanelList)
    return _places([(panel.centre_mm, panel.size_px) for panel in config.panels], config.pixel_size_mm)


def _places(
    panels: list[tuple[tuple[float, float, float], tuple[int, int]]], pixel: float, hole_mm: float = 0.0
) -> PixelPlaces:
    centres = []
    for (x, y, z), (columns, rows) in panels:
        across = (np.arange(columns) - (columns - 1) / 2) * pixel + x
        along = (np.arange(rows) - (rows - 1) / 2) * pixel + y
        grid_y, grid_x = np.meshgrid(along, across, indexing="ij")
        centres.append(np.stack([grid_x, grid_y, np.full_like(grid_x, z)], axis=-1))
    centre = np.array(centres)
    index = np.rint(centre[..., 1::-1] / pixel - 0.5).astype(np.int64)
    index -= index.reshape(-1, 2).min(axis=0)
    good = np.hypot(centre[..., 0], centre[..., 1]) >= hole_mm
    return PixelPlaces(centre, pixel, good, index)


def _pnccd(config: PnccdDetector) -> PixelPlaces:
    half = config.quadrant_px * config.pixel_size_mm / 2
    size = (config.quadrant_px, config.quadrant_px)
    places = [
        ((side * half, level * (half + config.gap_mm / 2), config.distance_mm), size)
        for level in (-1, 1)
        for side in (-1, 1)
    ]
    return _places(places, config.pixel_size_mm, config.hole_mm)


def read_out(photons: AnyArray, config: PlainReadout | AutorangingReadout, rng: np.random.Generator) -> AnyArray:
    """Turn photons on every pixel into what the detector says they are, in photons.

    An autoranging pixel goes to a lower gain where its signal is beyond a stage; its counts are whole numbers with
    read-out noise, divided by the stage's gain again. Beyond the last stage it is saturated.
    """
    if isinstance(config, PlainReadout):
        return photons
    limits = np.array([stage.up_to_photons for stage in config.stages])
    stage = np.minimum(np.searchsorted(limits, photons, side="right"), len(limits) - 1)
    gain = np.array([item.adu_per_photon for item in config.stages])[stage]
    noise = np.array([item.noise_adu for item in config.stages])[stage]
    signal = np.minimum(photons, limits[-1]) * gain
    return np.asarray(np.rint(signal + noise * rng.normal(size=photons.shape)) / gain)
