"""What a shot's pixels are computed from, as the arrays that the kernels read, on the host and on a GPU alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from exafel import _kernels
from exafel.arrays import FloatArray, Int32Array, IntArray
from exafel.io.attenuation import mu_per_mm
from exafel.io.geometry import Beam, Detector, Panel

CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 = 7.94079248e-30
"""Square of the classical electron radius, m^2, to the digits that nanoBragg has."""

DEFAULT_CUT = 20.0
"""Terms below exp(-20) = 2e-9 of a reflection's maximum are left out."""

Shape = Literal["gauss", "square", "round", "tophat"]
SHAPES: tuple[Shape, ...] = ("gauss", "square", "round", "tophat")
"""Shapes of a mosaic block, in the order of the kernels' numbers."""

BASIS_VARIABLES = ("rot_x", "rot_y", "rot_z", "a", "b", "c", "alpha", "beta", "gamma", "eta_a", "eta_b", "eta_c")
"""Variables of a crystal's bases: turns and mosaic spread in radians, lengths in angstrom, angles in degrees."""

_CHANNEL_PADDING = 16
_BUCKETS_PER_CHANNEL = 4


class StructureFactors(Protocol):
    """Squared structure factors of all indices, in every channel of a spectrum."""

    @property
    def first_hkl(self) -> IntArray:
        """Indices of the tables' first element, shape (3,)."""
        ...

    @property
    def tables(self) -> FloatArray:
        """Terms of |F|^2 by index, electrons squared, shape (k, nh, nk, nl)."""
        ...

    def bases(self, wavelengths_angstrom: FloatArray) -> FloatArray:
        """By what each table is multiplied in each channel, shape (k, n)."""
        ...


@dataclass(frozen=True, eq=False)
class CrystalModel:
    """One crystal in the beam, as the forward model sees it.

    Parameters
    ----------
    blocks
        Real-space bases of its mosaic blocks in the laboratory frame, rows a, b, c, angstrom, shape (m, 3, 3).
    n_cells
        Unit cells along a, b and c of a mosaic block.
    scale
        Number of such sets of blocks in the beam: what the photons of one block are multiplied by.
    shape
        Shape of a block: ``gauss`` (of the transform of a ball of its size), ``square`` (a parallelepiped of whole
        cells), ``round`` (an ellipsoid) or ``tophat`` (the same within a reflection's width, nothing outside).
    jacobian
        Derivatives of `blocks` by `BASIS_VARIABLES`, shape (m, 3, 3, 12); None where no gradients are wanted.
    """

    blocks: FloatArray
    n_cells: tuple[float, float, float]
    scale: float = 1.0
    shape: Shape = "gauss"
    jacobian: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Divergence:
    """Directions along which the light comes in, as turns of the beam about two axes normal to it.

    Parameters
    ----------
    turns_rad
        Turns about the polarization axis and about the axis normal to it and to the beam, shape (n, 2).
    weights
        Part of the light along each, summing to one, shape (n,).
    """

    turns_rad: FloatArray
    weights: FloatArray

    @staticmethod
    def gaussian(fwhm_rad: tuple[float, float], n: int) -> Divergence:
        """Make a grid of `n` x `n` directions with a normal distribution of the given full widths at half maximum.

        Knots and weights are those of Gauss-Hermite quadrature, which has the moments of the normal distribution
        to order 2 n - 1.
        """
        knots, weights = np.polynomial.hermite_e.hermegauss(n)
        sigma = np.asarray(fwhm_rad) / (2 * np.sqrt(2 * np.log(2)))
        grid = np.stack(np.meshgrid(knots * sigma[0], knots * sigma[1], indexing="ij"), axis=-1).reshape(-1, 2)
        part = np.outer(weights, weights).ravel()
        return Divergence(grid, part / part.sum())


@dataclass(frozen=True, eq=False)
class SceneOptions:
    """How the forward model is evaluated.

    Parameters
    ----------
    oversample
        Subpixels along each side of a pixel; each has its own solid angle and polarization factor.
    sensor_layers
        Layers of the sensor, each with what it absorbs and with where its pixels lie (parallax); none: everything is
        absorbed at the surface.
    cut
        Terms below exp(-cut) of a reflection's maximum are left out, at most 80 in single precision and 700 in double.
    divergence
        Directions of incidence; None for a parallel beam.
    """

    oversample: int = 1
    sensor_layers: int = 0
    cut: float = DEFAULT_CUT
    divergence: Divergence | None = None


@dataclass(frozen=True, eq=False)
class SceneArrays:
    """The arrays of one shot; fields are those of ``Scene`` in ``exafel/bragg_scene.hpp``."""

    panels: FloatArray
    directions: FloatArray
    beam: FloatArray
    polarization_axis: FloatArray
    polarization: float
    wave_numbers: FloatArray
    centre: float
    channels: FloatArray
    buckets: Int32Array
    bases: FloatArray
    blocks: FloatArray
    jacobian: FloatArray
    mean_block: FloatArray
    block_slack: FloatArray
    n_cells: FloatArray
    table: FloatArray
    first_hkl: IntArray
    shape: int
    scale: float
    oversample: int
    n_layers: int
    limit: float
    _host: list[_kernels.BraggScene] = field(default_factory=list, repr=False)

    @property
    def host(self) -> _kernels.BraggScene:
        """The scene of the host's kernels, made once."""
        if not self._host:
            names = [name for name in self.__dataclass_fields__ if name != "_host"]
            self._host.append(_kernels.BraggScene(**{name: getattr(self, name) for name in names}))
        return self._host[0]


def scene_arrays(
    detector: Detector,
    beam: Beam,
    crystal: CrystalModel,
    structure_factors: StructureFactors,
    fluence_per_m2: float,
    options: SceneOptions,
    wavelength_correction: tuple[float, float] = (0.0, 1.0),
) -> SceneArrays:
    """Arrange one shot for the kernels.

    Parameters
    ----------
    detector, beam
        Geometry; the channels are the beam's spectrum or, without one, its wavelength alone.
    crystal, structure_factors
        What scatters.
    fluence_per_m2
        Photons of all channels together on a square metre.
    options
        How it is evaluated.
    wavelength_correction
        Offset (angstrom) and scale of the channels' wavelengths: each is taken as offset + scale * wavelength.

    Raises
    ------
    ValueError
        `cut` is not positive, or the crystal has no blocks.
    """
    if not 0 < options.cut <= 700:
        raise ValueError("cut must be above 0 and at most 700")
    shape = SHAPES.index(crystal.shape)
    blocks = np.ascontiguousarray(crystal.blocks, dtype=np.float64)
    if not len(blocks):
        raise ValueError("at least one mosaic block is needed")
    mean = blocks.mean(axis=0)
    jacobian = crystal.jacobian if crystal.jacobian is not None else np.empty((0, 3, 3, len(BASIS_VARIABLES)))
    wave_numbers, centre, channels, bases = _channels(beam, structure_factors, wavelength_correction)
    along, axis = np.asarray(beam.s0 * beam.wavelength_angstrom), polarization_axis(beam)
    return SceneArrays(
        panels=panel_array(detector, beam, options.sensor_layers),
        directions=_directions(along, axis, options.divergence),
        beam=along,
        polarization_axis=axis,
        polarization=2 * beam.polarization_fraction - 1,
        wave_numbers=wave_numbers,
        centre=centre,
        channels=channels,
        buckets=_buckets(wave_numbers),
        bases=bases,
        blocks=blocks,
        jacobian=np.ascontiguousarray(jacobian, dtype=np.float64),
        mean_block=mean,
        # a millionth more than the largest, for the rounding of the mean
        block_slack=np.linalg.norm(blocks - mean, axis=2).max(axis=0) * (1 + 1e-6) + 1e-9,
        n_cells=np.asarray(crystal.n_cells, dtype=np.float64),
        table=structure_factors.tables,
        first_hkl=np.asarray(structure_factors.first_hkl, dtype=np.int64),
        shape=shape,
        scale=fluence_per_m2 * CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 * crystal.scale,
        oversample=options.oversample,
        n_layers=options.sensor_layers,
        limit=_kernels.shape_limit(shape, options.cut),
    )


def spectrum_channels(beam: Beam) -> tuple[FloatArray, FloatArray]:
    """Wavelengths (angstrom) and weights that sum to one; a beam without a spectrum has one channel."""
    if beam.spectrum is None:
        return np.array([beam.wavelength_angstrom]), np.ones(1)
    weights = np.asarray(beam.spectrum.weights, dtype=np.float64)
    return np.asarray(beam.spectrum.wavelengths_angstrom, dtype=np.float64), weights / weights.sum()


def polarization_axis(beam: Beam) -> FloatArray:
    """Unit vector of the electric field: in the plane of polarization and normal to the beam, shape (3,)."""
    axis = np.cross(beam.polarization_normal, beam.direction)
    return np.asarray(axis / np.linalg.norm(axis), dtype=np.float64)


def panel_array(detector: Detector, beam: Beam, sensor_layers: int) -> FloatArray:
    """Numbers of each panel as the kernels read them, shape (n_panels, 15)."""
    return np.array([_panel_numbers(panel, beam, sensor_layers) for panel in detector.panels])


def _panel_numbers(panel: Panel, beam: Beam, sensor_layers: int) -> list[float]:
    vectors = (*panel.origin_mm, *panel.fast_axis, *panel.slow_axis)
    thickness, absorption = panel.thickness_mm, panel.mu_per_mm
    if sensor_layers and not absorption:
        absorption = mu_per_mm(panel.material, beam.wavelength_angstrom)
    return [float(value) for value in (*vectors, *panel.pixel_size_mm, *panel.image_size, thickness, absorption)]


def _channels(
    beam: Beam, structure_factors: StructureFactors, correction: tuple[float, float]
) -> tuple[FloatArray, float, FloatArray, FloatArray]:
    """Wave numbers, their centre, by channel: offset from it, weight, slopes by offset and scale; and bases."""
    wavelengths, weights = spectrum_channels(beam)
    offset, scale = correction
    corrected = offset + scale * wavelengths
    order = np.argsort(1 / corrected, kind="stable")
    wavelengths, weights, x = wavelengths[order], weights[order], (1 / corrected)[order]
    centre = float(0.5 * (x[0] + x[-1]))
    channels = np.zeros((4, len(x) + _CHANNEL_PADDING))
    channels[:, : len(x)] = x - centre, weights, -(x**2), -(x**2) * wavelengths
    bases = np.zeros((len(structure_factors.tables), channels.shape[1]))
    bases[:, : len(x)] = structure_factors.bases(wavelengths)
    return x, centre, channels, bases


def _buckets(wave_numbers: FloatArray) -> Int32Array:
    """First channel not below each of even steps from the first wave number to the last, a little before it."""
    edges = np.linspace(wave_numbers[0], wave_numbers[-1], _BUCKETS_PER_CHANNEL * len(wave_numbers) + 1)
    width = edges[-1] - edges[0]
    return np.asarray(np.searchsorted(wave_numbers, edges - 1e-9 * width), dtype=np.int32)


def _directions(along: FloatArray, axis: FloatArray, divergence: Divergence | None) -> FloatArray:
    if divergence is None:
        return np.array([[*along, 1.0]])
    across = np.cross(along, axis)
    turned = along + np.tan(divergence.turns_rad[:, :1]) * across - np.tan(divergence.turns_rad[:, 1:]) * axis
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return np.ascontiguousarray(np.column_stack([turned, divergence.weights / np.sum(divergence.weights)]))
