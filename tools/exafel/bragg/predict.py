"""Which reflections a refined shot shows, and how strong they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, FloatArray, IntArray
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.scene import spectrum_channels
from exafel.bragg.shoeboxes import Planes, Shoeboxes, cut_shoeboxes, fit_planes
from exafel.bragg.shot_model import ShotParameters, ShotScene
from exafel.bragg.spot_model import box_coefficients
from exafel.config.predict import PredictConfig
from exafel.errors import InputError
from exafel.io.reflections import Flag, ReflectionTable

_FOREGROUND = 0.02
"""Pixels with less than this part of a spot's largest are not summed."""
_SEEN = 0.1
"""Part of a reflection that has to fall on good pixels for it to be integrated."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Reflections near the Ewald spheres of a spectrum: indices (n, 3), panel (n,), place in pixels (n, 2)."""

    hkl: AnyArray
    panel: AnyArray
    xy_px: FloatArray


def candidate_reflections(scene: ShotScene, parameters: ShotParameters, d_min: float, d_max: float) -> Candidates:
    """List reflections that some wavelength of the pulse may excite, and where.

    A point r diffracts where 1/lambda = -r^2 / (2 r.s) with s the beam's direction; outside of the spectrum the nearest
    wavelength is taken.
    """
    crystal, beam = scene.crystal, scene.beam
    wavelengths, _ = spectrum_channels(beam)
    low, high = 1 / float(wavelengths.max()), 1 / float(wavelengths.min())
    edges = np.asarray(parameters.n_cells) * np.asarray(crystal.cell[:3])
    # the Gaussian of a block of N cells has fallen to exp(-4.5) at 1.2/N of a cell
    hkl = _kernels.reflections_near_sphere(
        np.ascontiguousarray(crystal.A),
        np.ascontiguousarray(beam.s0),
        d_min=d_min,
        half_mosaicity_rad=3 * float(np.radians(max(parameters.eta_deg))),
        domain_size=float(edges.min() / 1.2),
        half_bandwidth=(high - low) / (high + low) + 1e-6,
    ).reshape(-1, 3)
    r = hkl @ crystal.A.T
    r2 = np.sum(r**2, axis=1)
    hkl, r, r2 = hkl[r2 > d_max**-2], r[r2 > d_max**-2], r2[r2 > d_max**-2]
    along = r @ beam.s0 * beam.wavelength_angstrom
    with np.errstate(divide="ignore"):
        wave_number = np.clip(np.where(along < 0, -r2 / (2 * along), high), low, high)
    s1 = wave_number[:, None] * beam.s0 * beam.wavelength_angstrom + r
    panel, xy = scene.detector.ray_to_pixel(s1)
    seen = panel >= 0
    return Candidates(hkl[seen], panel[seen], xy[seen])


@dataclass(frozen=True, eq=False)
class PixelSource:
    """Pixels and masks of an image, one array of shape (slow, fast) a panel, and counts a photon."""

    frames: Sequence[AnyArray]
    masks: Sequence[BoolArray]
    gain: float


def predict_shot(
    scene: ShotScene,
    parameters: ShotParameters,
    reflections: ReflectionSet,
    mean_square: FloatArray,
    pixels: PixelSource,
    spots: ReflectionTable,
    config: PredictConfig,
    read_noise: float,
) -> ReflectionTable:
    """Predict, select and integrate the reflections of a refined shot.

    Parameters
    ----------
    scene, parameters
        The refined model.
    reflections, mean_square
        All reflections, and the mean |F|^2 of each one's shell, shape (n,): what is expected before it is known.
    pixels
        The image.
    spots
        Found spots, with ``panel`` and ``xyzobs.px.value``.
    config, read_noise
        Parameters; photons.

    Returns
    -------
    ReflectionTable
        Selected reflections in the order of their indices, with ``intensity.sum.*``, ``intensity.prf.*``,
        ``is_strong``, ``is_weak``, ``scatter`` (-ln of the part of full reflection), ``refl_idx``, ``num_pixels``,
        ``xyzcal.px`` (where the model's photons lie) and, for strong ones, ``orig.xyzobs.px``.

    Raises
    ------
    InputError
        The model predicts nothing.
    """
    d_min = max(config.d_min or 0.0, float(reflections.d.min()))
    found = candidate_reflections(scene, parameters, d_min, config.d_max)
    number = reflections.lookup(found.hkl)
    boxes = cut_shoeboxes(
        pixels.frames, pixels.masks, scene.detector, found.panel, found.xy_px, config.shoebox_px, gain=pixels.gain
    )
    boxes = boxes.select(number[boxes.rows] >= 0)
    number = number[boxes.rows]
    profile, model = _profiles(scene, parameters, reflections, number, mean_square, boxes)
    total = profile.sum(axis=(1, 2))
    expected = total * mean_square[number]
    clear = boxes.good & (model < 0.1 * np.sqrt(1 + np.maximum(boxes.data, 0)))
    planes = fit_planes(boxes.data, clear)
    seen = np.where(_foreground(boxes, profile), profile, 0).sum(axis=(1, 2)) > _SEEN * total
    likely = np.flatnonzero((expected >= config.min_photons) & planes.good & seen)
    if not len(likely):
        raise InputError("the model predicts no reflection")
    scatter = -np.log(total[likely] / total[likely].max())
    with np.errstate(invalid="ignore", divide="ignore"):
        places = np.einsum("nij,nijk->nk", profile, boxes.pixels()[..., 1:] + 0.5) / total[:, None]
    panel = boxes.corners[:, 0]
    match = _nearest_spots(scene, panel[likely], places[likely], spots, config.q_cut)
    chosen = _select(scatter, match, config.weak_fraction)
    kept = likely[chosen]
    table = _integrate(boxes.select(kept), profile[kept], _part(planes, kept), read_noise)
    hkl = found.hkl[boxes.rows[kept]]
    return _finish(scene, table, hkl, panel[kept], places[kept], expected[kept], scatter[chosen], match[chosen], spots)


def _part(planes: Planes, rows: IntArray) -> Planes:
    return Planes(planes.coefficients[rows], planes.rms[rows], planes.good[rows])


def _profiles(
    scene: ShotScene,
    parameters: ShotParameters,
    reflections: ReflectionSet,
    number: IntArray,
    mean_square: FloatArray,
    boxes: Shoeboxes,
) -> tuple[FloatArray, FloatArray]:
    """Photons for a unit of |F|^2 of each box's own reflection, and expected photons of all, shape (n, size, size)."""
    table = box_coefficients(scene, parameters, reflections, boxes.corners, boxes.size)
    model = table @ mean_square
    coo = table.tocoo()
    own = coo.coords[1] == np.repeat(number, boxes.size**2)[coo.coords[0]]
    profile = np.zeros(table.shape[0])
    profile[coo.coords[0][own]] = coo.data[own]
    return profile.reshape(boxes.data.shape), model.reshape(boxes.data.shape)


def _nearest_spots(
    scene: ShotScene, panel: AnyArray, xy_px: FloatArray, spots: ReflectionTable, q_cut: float
) -> IntArray:
    """Number of the found spot that a prediction is nearest to, in q and within `q_cut`; -1 for none, shape (n,)."""
    match = np.full(len(panel), -1, dtype=np.int64)
    if not len(spots):
        return match

    def momentum(panels: AnyArray, xy: FloatArray) -> FloatArray:
        q = np.empty((len(panels), 3))
        for one in np.unique(panels):
            rows = panels == one
            q[rows] = scene.beam.reciprocal(scene.detector[int(one)].pixel_to_lab(xy[rows]))
        return q

    predicted = momentum(panel, xy_px)
    for row, q in enumerate(momentum(spots["panel"], spots["xyzobs.px.value"][:, :2])):
        distance = np.linalg.norm(predicted - q, axis=1)
        nearest = int(np.argmin(distance))
        if distance[nearest] < q_cut:
            match[nearest] = row
    return match


def _select(scatter: FloatArray, match: IntArray, weak_fraction: float) -> IntArray:
    """Strong reflections, and the best part of the weak ones."""
    weak = np.flatnonzero(match < 0)
    best = weak[np.argsort(scatter[weak], kind="stable")[: round(weak_fraction * len(weak))]]
    return np.sort(np.concatenate([np.flatnonzero(match >= 0), best]))


def _foreground(boxes: Shoeboxes, profile: FloatArray) -> BoolArray:
    """Good pixels that belong to a box's own reflection, shape (n, size, size)."""
    return np.asarray(boxes.good & (profile > _FOREGROUND * profile.max(axis=(1, 2), keepdims=True)))


def _integrate(boxes: Shoeboxes, profile: FloatArray, planes: Planes, read_noise: float) -> ReflectionTable:
    """Intensities, photons, by summation over the model's foreground and by the model's profile."""
    background = np.maximum(planes.values(boxes.size), 0.0)
    net = np.where(boxes.good, boxes.data - background, 0.0)
    shape = np.where(boxes.good, profile, 0.0)
    whole = profile.sum(axis=(1, 2), keepdims=True)
    shape = shape / whole
    foreground = _foreground(boxes, profile)
    seen = np.where(foreground, shape, 0).sum(axis=(1, 2))
    noise = read_noise**2
    summed = np.where(foreground, net, 0).sum(axis=(1, 2)) / seen
    variance = np.where(foreground, np.maximum(boxes.data, background) + noise, 0).sum(axis=(1, 2)) / seen**2
    fitted, fitted_variance = np.maximum(summed, 0), variance
    for _ in range(3):  # weights depend on the intensity
        weight = shape / (background + noise + np.maximum(fitted, 0)[:, None, None] * shape + 1e-6)
        fitted_variance = 1 / np.sum(weight * shape, axis=(1, 2))
        fitted = np.sum(weight * net, axis=(1, 2)) * fitted_variance
    return ReflectionTable(
        {
            "intensity.sum.value": summed,
            "intensity.sum.variance": variance,
            "intensity.prf.value": fitted,
            "intensity.prf.variance": fitted_variance,
            "background.mean": planes.coefficients[:, 0],
            "num_pixels.foreground": foreground.sum(axis=(1, 2)).astype(np.int32),
            "num_pixels": (profile > 0).sum(axis=(1, 2)).astype(np.int32),
        }
    )


def _finish(
    scene: ShotScene,
    table: ReflectionTable,
    hkl: AnyArray,
    panel: AnyArray,
    xy_px: FloatArray,
    expected: FloatArray,
    scatter: FloatArray,
    match: IntArray,
    spots: ReflectionTable,
) -> ReflectionTable:
    n = len(hkl)
    strong = match >= 0
    observed = np.column_stack([xy_px, np.full(n, 0.5)])
    observed[strong] = spots["xyzobs.px.value"][match[strong]] if strong.any() else 0
    flags = np.full(n, int(Flag.PREDICTED | Flag.INTEGRATED_SUM | Flag.INTEGRATED_PRF), dtype=np.uint64)
    flags[strong] |= np.uint64(Flag.STRONG)
    table["miller_index"] = hkl.astype(np.int32)
    table["panel"] = panel.astype(np.uint64)
    table["id"] = np.zeros(n, dtype=np.int32)
    table["flags"] = flags
    table["d"] = 1 / np.linalg.norm(hkl @ scene.crystal.A.T, axis=1)
    table["xyzcal.px"] = np.column_stack([xy_px, np.full(n, 0.5)])
    table["xyzobs.px.value"] = observed
    table["orig.xyzobs.px"] = np.where(strong[:, None], observed, 0.0)
    table["expected.photons"] = expected
    table["scatter"] = scatter
    table["is_strong"] = strong
    table["is_weak"] = ~strong
    table["refl_idx"] = np.arange(n, dtype=np.int32)
    return table.select(np.lexsort(hkl.T[::-1]))
