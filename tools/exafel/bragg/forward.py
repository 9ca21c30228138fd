"""The diffraction forward model: photons that crystals scatter into the pixels of a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel import _kernels
from exafel.arrays import FloatArray
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.io.geometry import Beam, Detector, Panel

CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 = 7.94079248e-30
"""Square of the classical electron radius, m^2, to the digits that nanoBragg has."""

DEFAULT_CUT = 20.0
"""Terms below exp(-20) = 2e-9 of a reflection's maximum are left out."""


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
    """

    blocks: FloatArray
    n_cells: tuple[float, float, float]
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class BraggImage:
    """Expected photons, one array of shape (slow, fast) a panel, and the number of terms computed for them."""

    panels: list[FloatArray]
    n_terms: int


def bragg_photons(
    detector: Detector,
    beam: Beam,
    crystal: CrystalModel,
    structure_factors: StructureFactorTable,
    *,
    fluence_per_m2: float,
    oversample: int = 1,
    cut: float = DEFAULT_CUT,
    all_pixels: bool = False,
) -> BraggImage:
    """Photons from Bragg scattering, without background or noise.

    The model is nanoBragg's with the Gauss shape (Lyubimov et al. 2016, J. Appl. Cryst. 49, 1057)::

        I_p = fluence r_e^2 Omega_p P_p G / (n_m n_os^2) sum_{subpixel, channel s, block m} w_s |F_hkl|^2 F_latt(h)^2
        F_latt = Na Nb Nc exp(-[(Na dh)^2 + (Nb dk)^2 + (Nc dl)^2] / 0.63),  dh = h - nearest integer

    with weights w_s that sum to one. Sensor absorption and parallax are not part of it.

    Parameters
    ----------
    detector, beam
        Geometry; the channels are the beam's spectrum or, without one, its wavelength alone.
    crystal, structure_factors
        What scatters.
    fluence_per_m2
        Photons of all channels together on a square metre.
    oversample
        Subpixels along each side of a pixel; each has its own solid angle and polarization factor.
    cut
        Terms below exp(-cut) of a reflection's maximum are left out, at most 700.
    all_pixels
        Visit every pixel instead of those near each reflection: slow, the same image to about exp(-cut).

    Returns
    -------
    BraggImage
        Photons a pixel.
    """
    wavelengths, weights = channels(beam)
    n_cells = np.asarray(crystal.n_cells, dtype=np.float64)
    image = np.zeros(detector.n_pixels)
    n_terms = _kernels.add_bragg(
        image,
        *_geometry(detector, beam),
        1 / wavelengths,
        weights,
        np.ascontiguousarray(crystal.blocks, dtype=np.float64),
        n_cells,
        structure_factors.f_squared,
        structure_factors.first_hkl,
        fluence_per_m2 * CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 * crystal.scale,
        oversample,
        cut,
        all_pixels,
    )
    return BraggImage(split_panels(image, detector), int(n_terms))


def channels(beam: Beam) -> tuple[FloatArray, FloatArray]:
    """Wavelengths (angstrom) and weights that sum to one; a beam without a spectrum has one channel."""
    if beam.spectrum is None:
        return np.array([beam.wavelength_angstrom]), np.ones(1)
    weights = np.asarray(beam.spectrum.weights, dtype=np.float64)
    return np.asarray(beam.spectrum.wavelengths_angstrom, dtype=np.float64), weights / weights.sum()


def pixel_factors(detector: Detector, beam: Beam) -> tuple[FloatArray, FloatArray]:
    """Solid angle (sr) times polarization factor, and cosine of the scattering angle, of pixel centres; (n_pixels,)."""
    omega_p, cos_two_theta = np.empty((2, detector.n_pixels))
    _kernels.pixel_factors(omega_p, cos_two_theta, *_geometry(detector, beam))
    return omega_p, cos_two_theta


def polarization_axis(beam: Beam) -> FloatArray:
    """Unit vector of the electric field: in the plane of polarization and normal to the beam, shape (3,)."""
    axis = np.cross(beam.polarization_normal, beam.direction)
    return np.asarray(axis / np.linalg.norm(axis), dtype=np.float64)


def split_panels(image: FloatArray, detector: Detector) -> list[FloatArray]:
    """Cut a flat image (n_pixels,) into one array of shape (slow, fast) a panel."""
    ends = np.cumsum([panel.image_size[0] * panel.image_size[1] for panel in detector.panels])
    pieces = np.split(image, ends[:-1])
    return [piece.reshape(panel.shape) for piece, panel in zip(pieces, detector.panels, strict=True)]


def _geometry(detector: Detector, beam: Beam) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    panels = np.array([_panel_numbers(panel) for panel in detector.panels])
    along = np.asarray(beam.s0 * beam.wavelength_angstrom)
    return panels, along, polarization_axis(beam), 2 * beam.polarization_fraction - 1


def _panel_numbers(panel: Panel) -> list[float]:
    vectors = (*panel.origin_mm, *panel.fast_axis, *panel.slow_axis)
    return [float(value) for value in (*vectors, *panel.pixel_size_mm, *panel.image_size)]
