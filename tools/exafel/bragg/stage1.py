"""Stage 1: the orientation, cell, block size and scale of one shot refined against the pixels of its spots.

The method is that of diffBragg (Mendez et al. 2020, IUCrJ 7, 1151; 2021, IUCrJ 8, 1082) with Fisher scoring in place of
L-BFGS: derivatives by all parameters come with the photons, so a Newton-like step costs no more than a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exafel.arrays import BoolArray, FloatArray, Int32Array, IntArray
from exafel.bragg.levenberg import Evaluation, Minimum, minimize
from exafel.bragg.likelihood import pixel_likelihood
from exafel.bragg.shoeboxes import Planes, Shoeboxes, central, fit_planes
from exafel.bragg.shot_model import Parameterization, ShotParameters, ShotScene
from exafel.bragg.spot_scales import SpotScales, intensity_error, own_scales
from exafel.bragg.spot_width import spot_widths_px, subpixels_for
from exafel.config.stage1 import Stage1Config
from exafel.errors import InputError


@dataclass(frozen=True, eq=False)
class Stage1Fit:
    """One shot's refined model.

    Parameters
    ----------
    parameters, start
        Refined, and those that the fit started from.
    sigma_z_before, sigma_z
        Standard deviation of Z over the pixels used, before and after, with each spot's |F|^2 as far from the given
        one as `intensity_error` allows.
    intensity_error
        Relative standard deviation of |F|^2 that the first fit has shown (`exafel.bragg.spot_scales`).
    spot_fwhm_px
        How narrow the modelled spots are: median of `exafel.bragg.spot_width.spot_widths_px`.
    n_evaluations
        Evaluations of the model.
    n_pixels
        Pixels of the last fit.
    boxes
        Which of the given boxes the last fit used, shape (n,).
    centroids_px
        Fast and slow position of the model's photons in these boxes, shape (n, 2); NaN where it has none.
    flags
        What is doubtful: ``not_converged``, ``high_sigma_z``, ``at_bound:NAME``, ``boxes_rejected`` (more than
        ``max_rejected`` of the boxes do not show the model's pattern).
    """

    parameters: ShotParameters
    start: ShotParameters
    sigma_z_before: float
    sigma_z: float
    intensity_error: float
    spot_fwhm_px: float
    n_evaluations: int
    n_pixels: int
    boxes: IntArray
    centroids_px: FloatArray
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels of all boxes that are fitted, flat; `where` and `decay` of all, what follows `good` of the good."""

    boxes: IntArray
    where: Int32Array
    decay: FloatArray
    good: BoolArray
    data: FloatArray
    background: FloatArray
    scales: SpotScales

    def allowing(self, sigma: float) -> _Pixels:
        """Return the same pixels, with |F|^2 of another relative standard deviation."""
        return replace(self, scales=SpotScales(self.scales.spot, self.scales.n, sigma))


def refine_shot(scene: ShotScene, boxes: Shoeboxes, config: Stage1Config) -> Stage1Fit:
    """Refine one shot; where its pixels end in disagreement, once more without the boxes that agree least at the start.

    The first fit takes the pixels beyond a radius around the spots as background; the second those where the first
    model has no photons, and leaves out boxes that disagree with it (hot pixels, other lattices).

    Raises
    ------
    InputError
        Fewer boxes are usable than ``min_spots``, or they hold no photons of the model's.
    """
    fit = _refine(scene, boxes, config)
    if fit.sigma_z <= config.max_sigma_z:
        return fit
    quiet = _quiet(scene, boxes, config)
    if quiet.all() or quiet.sum() < config.min_spots:
        return fit
    try:
        again = _refine(scene, boxes.select(quiet), config)
    except InputError:
        return fit
    if not again.sigma_z < fit.sigma_z:
        return fit
    flags = tuple(dict.fromkeys((*again.flags, "boxes_rejected")))
    return replace(again, boxes=np.flatnonzero(quiet)[again.boxes], flags=flags)


def refine_sampled(scene: ShotScene, boxes: Shoeboxes, config: Stage1Config) -> tuple[Stage1Fit, ShotScene]:
    """Refine one shot with as many subpixels as its spots need, where the configuration leaves that open.

    The number follows from the blocks' size to start from, and from the refined one where that asks for more. Returns
    the scene with that number too.

    Raises
    ------
    InputError
        As `refine_shot`.
    """
    if config.oversample != "auto":
        return refine_shot(scene, boxes, config), scene
    eta = config.eta_deg if scene.mosaic_blocks > 1 else 0.0
    start = ShotParameters(scene.crystal.cell, config.n_cells, 1.0, eta_deg=(eta, eta, eta))
    needed = subpixels_for(_spot_width(scene, start, boxes))
    scene = replace(scene, options=replace(scene.options, oversample=needed))
    fit = refine_shot(scene, boxes, config)
    more = subpixels_for(fit.spot_fwhm_px)
    if more <= needed:
        return fit, scene
    scene = replace(scene, options=replace(scene.options, oversample=more))
    return refine_shot(scene, boxes, config), scene


def _spot_width(scene: ShotScene, parameters: ShotParameters, boxes: Shoeboxes) -> float:
    """Median of the spots' narrowest full widths, pixels."""
    places = np.asarray(boxes.corners[:, 1:] + boxes.size / 2, dtype=np.float64)
    return float(np.median(spot_widths_px(scene, parameters, boxes.corners[:, 0], places)))


def _quiet(scene: ShotScene, boxes: Shoeboxes, config: Stage1Config) -> BoolArray:
    """Boxes that agree with the starting model not much less than most do: without hot pixels, in most shots."""
    planes = fit_planes(boxes.data, boxes.good & ~central(boxes.size, config.spot_radius_px))
    start = ShotParameters(scene.crystal.cell, config.n_cells, 1.0, eta_deg=(config.eta_deg,) * 3)
    model = _model_photons(Parameterization(scene, start, {}, {}, {}), np.zeros(0), scene, boxes)
    net = np.where(boxes.good, boxes.data - planes.values(boxes.size), 0).sum(axis=(1, 2))
    expected = model.sum(axis=(1, 2))
    seen = planes.good & (expected > 0.1 * np.median(expected))
    if not seen.any():
        return planes.good
    rms = _box_rms(boxes, planes, float(np.median(net[seen] / expected[seen])) * model, config)
    return np.asarray(planes.good & (rms <= max(config.max_box_z, 2 * float(np.median(rms[planes.good])))))


def _refine(scene: ShotScene, boxes: Shoeboxes, config: Stage1Config) -> Stage1Fit:
    outside = boxes.good & ~central(boxes.size, config.spot_radius_px)
    planes = fit_planes(boxes.data, outside)
    chosen = planes.good
    pixels = _flatten(scene, boxes, planes, chosen, config)
    start = _starting_parameters(scene, pixels, config)
    free = _parameterization(scene, start, config)
    first_pixels = pixels
    first = _minimize(free, np.zeros(len(free)), pixels, config)
    model = _model_photons(free, first.x, scene, boxes)
    planes = fit_planes(boxes.data, boxes.good & (model < 0.2 * np.sqrt(np.maximum(planes.values(boxes.size), 1))))
    own, error = own_scales(boxes, planes, model, config.read_noise_photons)
    agreeing = _agreeing(boxes, planes, own[:, None, None] * model, config)
    kept = planes.good & agreeing
    amplitudes_off = intensity_error(own[kept], error[kept])
    pixels = _flatten(scene, boxes, planes, kept, config, amplitudes_off)
    last = _minimize(free, first.x, pixels, config)
    before = _sigma_z(free, np.zeros(len(free)), first_pixels.allowing(amplitudes_off), config)
    sigma_z = _sigma_z(free, last.x, pixels, config)
    used = pixels.boxes
    odd = float(np.mean(~agreeing[planes.good])) > config.max_rejected
    flags = _flags(free, last, sigma_z, config) + (("boxes_rejected",) if odd else ())
    return Stage1Fit(
        parameters=free.parameters(last.x),
        start=start,
        sigma_z_before=before,
        intensity_error=amplitudes_off,
        spot_fwhm_px=_spot_width(scene, free.parameters(last.x), boxes.select(used)),
        sigma_z=sigma_z,
        n_evaluations=first.n_evaluations + last.n_evaluations,
        n_pixels=len(pixels.data),
        boxes=used,
        centroids_px=_centroids(boxes.select(used), _model_photons(free, last.x, scene, boxes.select(used))),
        flags=flags,
    )


def _flatten(
    scene: ShotScene, boxes: Shoeboxes, planes: Planes, chosen: BoolArray, config: Stage1Config, error: float = 0.0
) -> _Pixels:
    """Take the pixels of chosen boxes, whose |F|^2 have a relative standard deviation of `error`."""
    if chosen.sum() < config.min_spots:
        raise InputError(f"fewer than {config.min_spots} usable spots")
    used = boxes.select(chosen)
    where = used.pixels().reshape(-1, 3)
    background = planes.values(boxes.size)[chosen][used.good]
    decay = scene.bragg_decay(where)
    spot = np.nonzero(used.good)[0]
    scales = SpotScales(spot, len(used), error)
    return _Pixels(np.flatnonzero(chosen), where, decay, used.good.ravel(), used.data[used.good], background, scales)


def _starting_parameters(scene: ShotScene, pixels: _Pixels, config: Stage1Config) -> ShotParameters:
    """The configuration's start, with the scale at which the model has as many photons as the spots."""
    eta = config.eta_deg if scene.mosaic_blocks > 1 else 0.0
    start = ShotParameters(scene.crystal.cell, config.n_cells, 1.0, eta_deg=(eta, eta, eta))
    photons, _ = Parameterization(scene, start, {}, {}, {}).photons(np.zeros(0), pixels.where, pixels.decay)
    measured, modelled = float(np.sum(pixels.data - pixels.background)), float(photons[pixels.good].sum())
    if measured <= 0 or modelled <= 0:
        raise InputError("the spots hold no photons" if measured <= 0 else "the model has no photons at the spots")
    return ShotParameters(start.cell, start.n_cells, measured / modelled, eta_deg=start.eta_deg)


def _parameterization(scene: ShotScene, start: ShotParameters, config: Stage1Config) -> Parameterization:
    chosen = set(config.refine)
    units = {str(name): value for name, value in config.units.model_dump().items() if name in chosen}
    restraints = {name: value for name, value in config.restraints.model_dump().items() if value is not None}
    return Parameterization(scene, start, units, config.limits.model_dump(), restraints)


def _minimize(free: Parameterization, x: FloatArray, pixels: _Pixels, config: Stage1Config) -> Minimum:
    weights = free.restraint_weights()

    def evaluate(at: FloatArray) -> Evaluation:
        photons, slopes = free.photons(at, pixels.where, pixels.decay)
        photons, slopes = photons[pixels.good], slopes[:, pixels.good]
        found = pixels.scales.evaluate(pixels.data, pixels.background, photons, slopes, config.read_noise_photons)
        restraint = 0.5 * float(weights @ at**2)
        return Evaluation(found.value + restraint, found.gradient + weights * at, found.hessian + np.diag(weights))

    return minimize(evaluate, x, free.bounds, max_evaluations=config.max_evaluations)


def _sigma_z(free: Parameterization, x: FloatArray, pixels: _Pixels, config: Stage1Config) -> float:
    photons, _ = free.photons(x, pixels.where, pixels.decay)
    photons, noise = photons[pixels.good], config.read_noise_photons
    photons = photons * pixels.scales.factors(pixels.data, pixels.background, photons, noise)
    return pixel_likelihood(pixels.data, pixels.background + photons, noise).sigma_z()


def _model_photons(free: Parameterization, x: FloatArray, scene: ShotScene, boxes: Shoeboxes) -> FloatArray:
    where = boxes.pixels().reshape(-1, 3)
    photons, _ = free.photons(x, where, scene.bragg_decay(where))
    return photons.reshape(boxes.data.shape)


def _centroids(boxes: Shoeboxes, model: FloatArray) -> FloatArray:
    pixels = boxes.pixels()[..., 1:] + 0.5
    total = model.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.einsum("nij,nijk->nk", model, pixels) / total[:, None])


def _agreeing(boxes: Shoeboxes, planes: Planes, model: FloatArray, config: Stage1Config) -> BoolArray:
    """Boxes whose pixels agree with the model, brought to their intensity, about as well as the others' do."""
    rms = _box_rms(boxes, planes, model, config)
    typical = float(np.median(rms[planes.good])) if planes.good.any() else 0.0
    return np.asarray(rms <= max(config.max_box_z, 3 * typical))


def _box_rms(boxes: Shoeboxes, planes: Planes, model: FloatArray, config: Stage1Config) -> FloatArray:
    """Root mean square Z of each box, shape (n,)."""
    found = pixel_likelihood(boxes.data, planes.values(boxes.size) + model, config.read_noise_photons)
    z2 = np.where(boxes.good, found.z**2, 0)
    return np.asarray(np.sqrt(z2.sum(axis=(1, 2)) / np.maximum(boxes.good.sum(axis=(1, 2)), 1)))


def _flags(free: Parameterization, last: Minimum, sigma_z: float, config: Stage1Config) -> tuple[str, ...]:
    flags = [] if last.converged else ["not_converged"]
    if not sigma_z <= config.max_sigma_z:
        flags.append("high_sigma_z")
    held = [item.name for item, bound in zip(free.variables, last.at_bound, strict=True) if bound]
    return (*flags, *(f"at_bound:{name}" for name in held))
