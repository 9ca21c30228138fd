"""How wide the model's spots are on the detector, and how many subpixels that asks for."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.shot_model import ShotParameters, ShotScene

_GAUSS_VARIANCE = 0.63 / 4
"""Of F_latt^2 = exp(-2 |N dh|^2 / 0.63), in units of N dh."""
_FWHM = 2 * np.sqrt(2 * np.log(2))
_SAMPLES = 1.2
"""Samples across a full width at half maximum by which a Gaussian is summed to one percent, whatever its phase."""
_MOST = 6


def spot_widths_px(scene: ShotScene, parameters: ShotParameters, panel: AnyArray, xy_px: FloatArray) -> FloatArray:
    """Full widths at half maximum of spots along the direction in which they are narrowest, pixels, shape (n,).

    The lattice point is an ellipsoid, that of the blocks' size widened by the mosaic spread across q; the spot of one
    wavelength is its section with the Ewald sphere, and further wavelengths lengthen it along the other direction.

    Parameters
    ----------
    scene, parameters
        The shot.
    panel, xy_px
        Where the spots are, shapes (n,) and (n, 2).
    """
    A, eta = scene.refined_crystal(parameters).A, float(np.radians(max(parameters.eta_deg)))
    block = (A * (_GAUSS_VARIANCE / np.asarray(parameters.n_cells) ** 2)) @ A.T
    widths = np.full(len(panel), np.nan)
    for number in np.unique(panel):
        rows = panel == number
        one = scene.detector[int(number)]
        lab = one.pixel_to_lab(xy_px[rows])
        distance = np.linalg.norm(lab, axis=1)
        ray = lab / distance[:, None]
        q = scene.beam.reciprocal(lab)
        q2 = np.sum(q**2, axis=1)[:, None, None]
        spread = eta**2 * (q2 * np.eye(3) - q[:, :, None] * q[:, None, :])
        across = np.linalg.svd(ray[:, None, :])[2][:, 1:]  # two directions normal to the ray
        inverse = np.einsum("nij,njk,nlk->nil", across, np.linalg.inv(block + spread), across)
        narrowest = np.linalg.eigvalsh(inverse)[:, -1] ** -0.5
        pixel = min(one.pixel_size_mm)
        widths[rows] = _FWHM * narrowest * scene.beam.wavelength_angstrom * distance / pixel
    return widths


def subpixels_for(fwhm_px: float) -> int:
    """Subpixels along a side of a pixel that sample spots of this width, 6 at the most."""
    return int(np.clip(np.ceil(_SAMPLES / max(fwhm_px, 1e-3)), 1, _MOST))
