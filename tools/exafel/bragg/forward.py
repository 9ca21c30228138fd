"""The diffraction forward model: photons that crystals scatter into the pixels of a detector, and their derivatives.

The model is nanoBragg's (Lyubimov et al. 2016, J. Appl. Cryst. 49, 1057; Mendez et al. 2020, IUCrJ 7, 1151)::

    I_p = fluence r_e^2 G / (n_m n_os^2)
          sum_{subpixel, sensor layer, direction d, channel s, block m} Omega P A w_d w_s |F_hkl(s)|^2 F_latt(h)^2

with weights w_d and w_s that sum to one each; for the Gauss shape
``F_latt = Na Nb Nc exp(-[(Na dh)^2 + (Nb dk)^2 + (Nc dl)^2] / 0.63)``, dh = h - nearest integer. Formulas and kernels
are in ``tools/kernels/include/exafel``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.scene import (
    BASIS_VARIABLES,
    DEFAULT_CUT,
    CrystalModel,
    SceneArrays,
    SceneOptions,
    StructureFactors,
    scene_arrays,
)
from exafel.io.geometry import Beam, Detector

VARIABLES = (*BASIS_VARIABLES, "n_a", "n_b", "n_c", "detector_z", "wavelength_offset", "wavelength_scale")
"""What photons are differentiated by: see `bragg_gradients`."""

_MAX_REFLECTIONS_A_PIXEL = 64


@dataclass(frozen=True, eq=False)
class BraggImage:
    """Expected photons, one array of shape (slow, fast) a panel, and the number of terms computed for them."""

    panels: list[FloatArray]
    n_terms: int


@dataclass(frozen=True, eq=False)
class BraggGradients:
    """Expected photons of listed pixels, shape (n,), and their derivatives by `VARIABLES`, shape (18, n)."""

    photons: FloatArray
    derivatives: FloatArray
    n_terms: int


def bragg_photons(
    detector: Detector,
    beam: Beam,
    crystal: CrystalModel,
    structure_factors: StructureFactors,
    *,
    fluence_per_m2: float,
    oversample: int = 1,
    cut: float = DEFAULT_CUT,
    all_pixels: bool = False,
    options: SceneOptions | None = None,
    single: bool = False,
    threads: int = 1,
) -> BraggImage:
    """Photons from Bragg scattering, without background or noise.

    Parameters
    ----------
    detector, beam
        Geometry; the channels are the beam's spectrum or, without one, its wavelength alone.
    crystal, structure_factors
        What scatters.
    fluence_per_m2
        Photons of all channels together on a square metre.
    oversample, cut
        As in `SceneOptions`; `options` replaces both.
    all_pixels
        Visit every pixel instead of those near each reflection: slower, the same image to about exp(-cut).
    options
        Everything else that can be chosen: sensor layers, divergence.
    single
        Compute terms in single precision: the same image to 1e-5 of its maximum.
    threads
        Threads to use; the image does not depend on them.

    Returns
    -------
    BraggImage
        Photons a pixel.

    Raises
    ------
    ValueError
        `cut` or `oversample` is out of range, or the crystal has no blocks.
    """
    chosen = options or SceneOptions(oversample=oversample, cut=cut)
    scene = scene_arrays(detector, beam, crystal, structure_factors, fluence_per_m2, chosen)
    image = np.zeros(detector.n_pixels)
    n_terms = scene.host.add_photons(image, all_pixels, single, threads)
    return BraggImage(split_panels(image, detector), int(n_terms))


def bragg_gradients(scene: SceneArrays, pixels: AnyArray, *, single: bool = False, threads: int = 1) -> BraggGradients:
    """Photons of listed pixels and their derivatives, from dual numbers.

    Derivatives are those by turns of the crystal about the laboratory's axes x, y, z (radians), cell lengths (angstrom)
    and angles (degrees), mosaic spread about the crystal's axes (radians), unit cells of a block along a, b, c, a shift
    of the detector along the beam (mm), and the offset (angstrom) and scale of the channels' wavelengths. The
    derivative by the scale G is photons / G.

    Parameters
    ----------
    scene
        The shot; its crystal has a Jacobian (`crystal_bases` makes one).
    pixels
        Panel, fast and slow index of each pixel, int32, shape (n, 3); panel by panel is fastest.
    single, threads
        As in `bragg_photons`.

    Raises
    ------
    ValueError
        The scene has no Jacobian, or a pixel is not on the detector.
    """
    where = np.ascontiguousarray(pixels, dtype=np.int32)
    photons, derivatives = np.empty(len(where)), np.empty((len(VARIABLES), len(where)))
    n_terms = scene.host.gradients(where, photons, derivatives, single, threads)
    return BraggGradients(photons, derivatives, int(n_terms))


def structure_factor_coefficients(
    scene: SceneArrays, pixels: AnyArray, *, single: bool = False, threads: int = 1, room: int = 4
) -> sparse.csr_array:
    """Photons of listed pixels for each unit of |F|^2.

    ``photons = coefficients @ |F|^2``, so ``d photons / d F = 2 F coefficients``: the derivatives by structure factors.

    Parameters
    ----------
    scene
        The shot; its structure factors are the same in all channels. Their values do not matter.
    pixels, single, threads
        As in `bragg_gradients`.
    room
        Reflections a pixel to make room for at first; more are made room for where they are met.

    Returns
    -------
    scipy.sparse.csr_array
        Shape (n pixels, size of the structure factors' table): columns are positions in its ravelled first table, in
        ascending order in each row.

    Raises
    ------
    ValueError
        The structure factors differ by channel, a pixel is not on the detector or meets more than 64 reflections.
    """
    where = np.ascontiguousarray(pixels, dtype=np.int32)
    counts = np.empty(len(where), dtype=np.int32)
    while True:
        index = np.empty((len(where), room), dtype=np.int32)
        value = np.empty((len(where), room))
        scene.host.coefficients(where, counts, index, value, single, threads)
        most = int(counts.max(initial=0))
        if most <= room:
            break
        if most > _MAX_REFLECTIONS_A_PIXEL or room == _MAX_REFLECTIONS_A_PIXEL:
            raise ValueError(f"a pixel meets more than {_MAX_REFLECTIONS_A_PIXEL} reflections")
        room = _MAX_REFLECTIONS_A_PIXEL
    used = np.arange(room) < counts[:, None]
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    table = sparse.csr_array((value[used], index[used], indptr), shape=(len(where), scene.table[0].size))
    table.sort_indices()
    return table


def pixel_factors(detector: Detector, beam: Beam, *, absorption: bool = False) -> tuple[FloatArray, FloatArray]:
    """Solid angle (sr) times polarization factor, and cosine of the scattering angle, of pixel centres; (n_pixels,).

    With `absorption`, the first is times the part of the photons that the sensor absorbs.
    """
    blocks = CrystalModel(np.eye(3)[None], (1.0, 1.0, 1.0))
    options = SceneOptions(sensor_layers=1 if absorption else 0)
    scene = scene_arrays(detector, beam, blocks, _Nothing(), 0.0, options)
    omega_p, cos_two_theta = np.empty((2, detector.n_pixels))
    scene.host.pixel_factors(omega_p, cos_two_theta)
    return omega_p, cos_two_theta


def split_panels(image: Any, detector: Detector) -> list[Any]:
    """Views of a flat image (n_pixels,), one of shape (slow, fast) a panel."""
    ends = np.cumsum([0, *(panel.image_size[0] * panel.image_size[1] for panel in detector.panels)])
    pairs = zip(ends[:-1], ends[1:], detector.panels, strict=True)
    return [image[int(first) : int(last)].reshape(panel.shape) for first, last, panel in pairs]


class _Nothing:
    """Structure factors of empty space."""

    first_hkl = np.zeros(3, dtype=np.int64)
    tables = np.zeros((1, 1, 1, 1))

    def bases(self, wavelengths_angstrom: FloatArray) -> FloatArray:
        return np.ones((1, len(wavelengths_angstrom)))
