"""Prediction: which reflections of a crystal a still shows, and where."""

from __future__ import annotations

import gemmi
import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.io.crystal import Crystal
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.ewald import rotate_to_ewald

NO_DOMAIN_LIMIT_ANGSTROM = 1e9
"""Domain size that stands for a fit that found no broadening by finite domains."""


def predict_reflections(
    crystal: Crystal,
    detector: Detector,
    beam: Beam,
    *,
    d_min: float | None = None,
    envelope: float = 1.0,
    half_bandwidth: float = 0.0,
) -> ReflectionTable:
    """Predict the reflections of a still.

    A reflection is excited where its reciprocal-lattice point, rotated by no more than
    ``envelope * (half mosaicity + d / domain size) + half_bandwidth * tan(theta)``, lies on the Ewald sphere
    (Nave 2014, J. Synchrotron Rad. 21, 537; Sauter et al. 2014, Acta Cryst. D70, 3299). That is the width that the
    mosaicity fit, ours and DIALS', gives a crystal; DIALS' own predictor counts half of the half mosaicity only. The
    spot is where the rotated point diffracts to. Reflections that the centring of the space group forbids are left out.

    Parameters
    ----------
    d_min
        Finest resolution, angstrom; None: that of the detector's corners.
    envelope
        Factor on the excitation half width.
    half_bandwidth
        Half width of the relative bandwidth, where the mosaicity does not contain it already.

    Returns
    -------
    ReflectionTable
        In the order of h, k, l; with ``miller_index``, ``panel``, ``xyzcal.px``, ``xyzcal.mm``, ``s1``, ``d``,
        ``delpsical.rad``, ``entering``, ``flags`` (PREDICTED) and ``id`` (0).
    """
    limit = detector_d_min(detector, beam)
    hkl = _kernels.reflections_near_sphere(
        np.ascontiguousarray(crystal.A),
        np.ascontiguousarray(beam.s0),
        d_min=limit if d_min is None else max(d_min, limit),
        half_mosaicity_rad=envelope * float(np.radians(crystal.half_mosaicity_deg or 0.0)),
        domain_size=(crystal.domain_size_angstrom or NO_DOMAIN_LIMIT_ANGSTROM) / envelope,
        half_bandwidth=half_bandwidth,
    ).reshape(-1, 3)
    hkl = hkl[allowed_by_centring(hkl, crystal.space_group)]
    r = hkl @ crystal.A.T
    s1, delta_psi = rotate_to_ewald(r, beam.s0 * beam.wavelength_angstrom, 1.0 / beam.wavelength_angstrom)
    panel, xy = detector.ray_to_pixel(s1)
    seen = panel >= 0
    return _table(hkl[seen], panel[seen], xy[seen], s1[seen], delta_psi[seen], r[seen], detector)


def allowed_by_centring(hkl: AnyArray, group: gemmi.SpaceGroup) -> BoolArray:
    """Whether the centring of a space group allows each reflection, shape (n,)."""
    allowed = np.ones(len(hkl), dtype=bool)
    for translation in group.operations().cen_ops:
        allowed &= (hkl @ np.asarray(translation)) % gemmi.Op.DEN == 0
    return allowed


def detector_d_min(detector: Detector, beam: Beam) -> float:
    """Finest resolution that any corner of a panel reaches, angstrom."""
    corners = [
        panel.pixel_to_lab(np.array([[0.0, 0.0], [fast, 0.0], [0.0, slow], [fast, slow]]))
        for panel in detector.panels
        for fast, slow in [panel.image_size]
    ]
    return float(1.0 / np.linalg.norm(beam.reciprocal(np.concatenate(corners)), axis=1).max())


def _table(
    hkl: AnyArray,
    panel: AnyArray,
    xy_px: FloatArray,
    s1: FloatArray,
    delta_psi: FloatArray,
    r: FloatArray,
    detector: Detector,
) -> ReflectionTable:
    n = len(hkl)
    xyz_px, xyz_mm = np.zeros((n, 3)), np.zeros((n, 3))
    xyz_px[:, :2], xyz_px[:, 2] = xy_px, 0.5
    for number in np.unique(panel):
        chosen = panel == number
        xyz_mm[chosen, :2] = detector[int(number)].pixel_to_mm(xy_px[chosen])
    return ReflectionTable(
        {
            "miller_index": hkl.astype(np.int32),
            "id": np.zeros(n, dtype=np.int32),
            "panel": panel.astype(np.uint64),
            "flags": np.full(n, Flag.PREDICTED, dtype=np.uint64),
            "s1": s1,
            "d": 1.0 / np.linalg.norm(r, axis=1),
            "delpsical.rad": -delta_psi,  # DIALS counts points inside the sphere as positive
            "entering": delta_psi < 0,
            "xyzcal.px": xyz_px,
            "xyzcal.mm": xyz_mm,
        }
    )
