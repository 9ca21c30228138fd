"""Stage 1 on images whose truth is known, and on images that are not what they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pixel_shots import (
    BEAM_SIZE_UM,
    CELL,
    N_CELLS,
    amplitudes,
    beam,
    crystal,
    detector,
    noisy,
    photons,
    reflections,
    turned,
)

from exafel.bragg.cell_freedom import free_cell_directions
from exafel.bragg.forward import bragg_photons
from exafel.bragg.levenberg import Evaluation, minimize
from exafel.bragg.likelihood import pixel_likelihood
from exafel.bragg.point_spread import spread_matrix
from exafel.bragg.readout import psf_kernel, spread
from exafel.bragg.scene import CrystalModel, SceneOptions
from exafel.bragg.shoeboxes import Shoeboxes, central, cut_shoeboxes, fit_planes
from exafel.bragg.shot_model import Parameterization, ShotParameters, ShotScene
from exafel.bragg.spot_scales import SpotScales, intensity_error
from exafel.bragg.spot_width import spot_widths_px, subpixels_for
from exafel.bragg.stage1 import Stage1Fit, refine_sampled, refine_shot
from exafel.config.simulate import PsfConfig
from exafel.config.stage1 import Stage1Config
from exafel.errors import InputError
from exafel.io.crystal import Crystal, space_group
from exafel.io.geometry import Beam

KNOWN = reflections()
F = amplitudes(KNOWN)
CONFIG = Stage1Config(shoebox_px=13, beam_size_um=BEAM_SIZE_UM, read_noise_photons=0.0, n_cells=(12, 12, 12))


def spots_of(image: np.ndarray, least: float = 120.0) -> tuple[np.ndarray, np.ndarray]:
    """Panels and places of local maxima well above the background."""
    found = []
    for panel, frame in enumerate(image):
        for y, x in np.argwhere(frame > least):
            window = frame[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
            if frame[y, x] == window.max():
                found.append((panel, x + 0.5, y + 0.5))
    table = np.array(found).reshape(-1, 3)
    return table[:, 0].astype(int), table[:, 1:]


def scene(start: Crystal, geometry=None, **more: object) -> ShotScene:
    light = beam()
    return ShotScene(
        geometry or detector(), light, start, KNOWN.table(F), light.flux / (BEAM_SIZE_UM * 1e-6) ** 2, **more
    )


def boxes_of(image: np.ndarray, geometry=None) -> Shoeboxes:
    panel, xy = spots_of(image)
    return cut_shoeboxes(
        list(image), [np.ones(frame.shape, bool) for frame in image], geometry or detector(), panel, xy, 13, gain=1.0
    )


def angle_deg(a: Crystal, b: Crystal) -> float:
    cosine = (np.trace(a.U.T @ b.U) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def refined(true: Crystal, start: Crystal, image: np.ndarray, **changes: object) -> tuple[Stage1Fit, ShotScene]:
    where = scene(start)
    return refine_shot(where, boxes_of(image), CONFIG.model_copy(update=changes)), where


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_the_truth_is_found_from_a_wrong_start(seed: int) -> None:
    true = crystal(seed)
    start = turned(true, 0.06, seed, stretch=1.0008)
    image = noisy(photons(true, KNOWN, F, detector(), beam()), seed)
    fit, where = refined(true, start, image)
    assert angle_deg(where.refined_crystal(fit.parameters), true) < 0.004
    assert fit.parameters.cell == pytest.approx(CELL, abs=0.008)
    assert fit.parameters.cell[0] == fit.parameters.cell[1]
    assert fit.parameters.n_cells == pytest.approx(N_CELLS, rel=0.03)
    assert fit.parameters.scale == pytest.approx(400, rel=0.05)
    assert fit.sigma_z == pytest.approx(1, abs=0.06)
    assert fit.sigma_z_before > 1.3 * fit.sigma_z
    assert fit.flags == ()
    rows = boxes_of(image).rows[fit.boxes]
    assert np.abs(fit.centroids_px - spots_of(image)[1][rows]).max() < 3


def test_the_value_never_rises_and_the_fit_is_short() -> None:
    true = crystal(1)
    fit, _ = refined(true, turned(true, 0.06, 1), noisy(photons(true, KNOWN, F, detector(), beam()), 1))
    assert fit.n_evaluations < 40


def test_derivatives_agree_with_central_differences() -> None:
    true = crystal(5)
    where = scene(true, mosaic_blocks=4)
    start = ShotParameters(CELL, N_CELLS, 300.0, eta_deg=(0.05, 0.05, 0.05), detector_z_mm=0.1, b_factor=5.0)
    units = Stage1Config().units.model_dump()
    free = Parameterization(where, start, units, Stage1Config().limits.model_dump(), {})
    image = noisy(photons(true, KNOWN, F, detector(), beam()), 5)
    pixels = boxes_of(image).pixels().reshape(-1, 3)
    decay = where.bragg_decay(pixels)
    x = 0.3 * np.random.default_rng(0).standard_normal(len(free))
    _, slopes = free.photons(x, pixels, decay)
    for number, variable in enumerate(free.variables):
        h = np.zeros(len(free))
        h[number] = 1e-4
        numeric = (free.photons(x + h, pixels, decay)[0] - free.photons(x - h, pixels, decay)[0]) / 2e-4
        assert np.abs(numeric - slopes[number]).max() < 2e-5 * np.abs(slopes[number]).max(), variable.name


def test_spots_of_a_hot_panel_are_left_out() -> None:
    true, geometry = crystal(2), detector(220, panels=2)
    image = noisy(photons(true, KNOWN, F, geometry, beam()), 2)
    hot = image.copy()
    rng = np.random.default_rng(0)
    for y, x in rng.integers(10, 200, (8, 2)):
        hot[1, y, x] += 5000
    fit = refine_shot(scene(turned(true, 0.04, 2), geometry), boxes_of(hot, geometry), CONFIG)
    assert "boxes_rejected" in fit.flags
    assert fit.sigma_z < 1.3
    assert fit.parameters.n_cells == pytest.approx(N_CELLS, rel=0.06)


def test_a_panel_full_of_hot_pixels_does_not_spoil_the_shot() -> None:
    true, geometry = crystal(2), detector(220, panels=2)
    hot = noisy(photons(true, KNOWN, F, geometry, beam()), 2)
    hot[1] += (np.random.default_rng(0).random(hot[1].shape) < 0.0007) * 5000
    fit = refine_shot(scene(turned(true, 0.04, 2), geometry), boxes_of(hot, geometry), CONFIG)
    assert "boxes_rejected" in fit.flags
    assert fit.sigma_z < 2
    assert fit.parameters.n_cells == pytest.approx(N_CELLS, rel=0.08)


def test_a_wrong_cell_is_flagged_and_few_spots_are_refused() -> None:
    true = crystal(1)
    image = noisy(photons(true, KNOWN, F, detector(), beam()), 1)
    wrong = turned(true, 0.0, 1, stretch=1.06)
    fit, _ = refined(true, wrong, image)
    assert {flag.partition(":")[0] for flag in fit.flags} & {"high_sigma_z", "boxes_rejected", "at_bound"}
    with pytest.raises(InputError, match="usable spots"):
        refine_shot(scene(true), boxes_of(image).select(np.arange(3)), CONFIG)


def test_wrong_amplitudes_neither_mislead_nor_flag() -> None:
    rng = np.random.default_rng(5)
    wrong = F * np.exp(0.2 * rng.standard_normal(len(F)))  # |F|^2 is 40 % off
    angles = []
    for seed in (1, 2, 4):
        true = crystal(seed)
        image = noisy(photons(true, KNOWN, F, detector(), beam()), seed)
        light, start = beam(), turned(true, 0.05, seed, stretch=1.0005)
        where = ShotScene(detector(), light, start, KNOWN.table(wrong), light.flux / (BEAM_SIZE_UM * 1e-6) ** 2)
        fit = refine_shot(where, boxes_of(image), CONFIG)
        assert fit.flags == ()
        assert fit.sigma_z == pytest.approx(1, abs=0.06)
        assert fit.intensity_error == pytest.approx(0.4, abs=0.15)
        assert fit.parameters.n_cells == pytest.approx(N_CELLS, rel=0.06)
        angles.append(angle_deg(where.refined_crystal(fit.parameters), true))
    assert max(angles) < 0.006
    fit, _ = refined(true, start, image)
    assert fit.intensity_error < 0.05


def test_factors_of_spots_leave_the_gradient_that_of_the_value() -> None:
    rng = np.random.default_rng(3)
    spot = np.repeat(np.arange(6), 30)
    shape, direction = rng.gamma(1.0, 20.0, 180), rng.standard_normal((2, 180))
    data = rng.poisson(shape * (1 + 0.3 * rng.standard_normal(6))[spot] + 5).astype(float)

    def at(x: np.ndarray) -> Evaluation:
        photons = shape * np.exp(0.1 * direction.T @ x)
        return SpotScales(spot, 6, 0.3).evaluate(data, np.full(180, 5.0), photons, 0.1 * direction * photons, 0.5)

    x, h = np.array([0.3, -0.2]), 1e-4
    numeric = [(at(x + h * axis).value - at(x - h * axis).value) / (2 * h) for axis in np.eye(2)]
    assert at(x).gradient == pytest.approx(numeric, abs=0.01 * float(np.sqrt(np.diag(at(x).hessian).max())))
    best = minimize(at, np.zeros(2), (np.full(2, -5.0), np.full(2, 5.0)))
    assert best.converged
    eigen = np.linalg.eigvalsh(best.at.hessian)
    assert eigen.min() > 0


def test_the_error_of_intensities_is_what_counting_does_not_explain() -> None:
    rng = np.random.default_rng(0)
    error = np.full(400, 0.05)
    measured = 1 + 0.3 * rng.standard_normal(400) + error * rng.standard_normal(400)
    measured[:20] = 30  # spots of another lattice
    assert intensity_error(measured, error) == pytest.approx(0.3, abs=0.04)
    assert intensity_error(1 + error * rng.standard_normal(400), error) < 0.03
    assert intensity_error(measured[:5], error[:5]) == 0


def test_spots_narrower_than_a_pixel_need_subpixels() -> None:
    fine, light = (30.0, 30.0, 24.0), beam()
    fluence = light.flux / (BEAM_SIZE_UM * 1e-6) ** 2
    offsets: dict[object, list[float]] = {1: [], "auto": []}
    angles: dict[object, list[float]] = {1: [], "auto": [], "start": []}
    for seed in (1, 2):
        true, start = crystal(seed), turned(crystal(seed), 0.02, seed, stretch=1.0003)
        model = CrystalModel(true.real_space[None], fine, 150.0)
        image = bragg_photons(
            detector(), light, model, KNOWN.table(F), fluence_per_m2=fluence, options=SceneOptions(oversample=8)
        )
        boxes = boxes_of(noisy(np.array(image.panels), seed))
        net = np.maximum(boxes.data - np.median(boxes.data, axis=(1, 2), keepdims=True), 0) * central(13, 4.0)
        observed = np.einsum("nij,nijk->nk", net, boxes.pixels()[..., 1:] + 0.5) / net.sum(axis=(1, 2))[:, None]
        angles["start"].append(angle_deg(start, true))
        for oversample in (1, "auto"):
            config = CONFIG.model_copy(update={"oversample": oversample, "n_cells": (20, 20, 20)})
            fit, used = refine_sampled(scene(start), boxes, config)
            off = fit.centroids_px - observed[fit.boxes]
            offsets[oversample].append(float(np.nanmedian(np.hypot(*off.T))))
            angles[oversample].append(angle_deg(used.refined_crystal(fit.parameters), true))
            if oversample == "auto":
                assert used.options.oversample in (4, 5, 6)
                assert fit.spot_fwhm_px == pytest.approx(0.3, abs=0.08)
                assert fit.spot_fwhm_px * used.options.oversample > 1
                assert fit.parameters.n_cells == pytest.approx(fine, rel=0.1)
                assert fit.sigma_z < 1.15
            else:
                assert used.options.oversample == 1
                assert fit.spot_fwhm_px < 1
    assert np.mean(angles["auto"]) < 0.25 * np.mean(angles["start"])
    assert np.mean(angles["auto"]) < np.mean(angles[1])
    assert np.mean(offsets["auto"]) < np.mean(offsets[1])


def test_the_width_of_spots_is_that_of_the_model() -> None:
    true, light = crystal(1), Beam(1.3, flux=1e12, polarization_fraction=0.999)
    geometry = detector(300)
    fine = replace(geometry.panels[0], pixel_size_mm=(0.05, 0.05), image_size=(1200, 1200))
    small = replace(geometry, panels=(fine,))
    model = CrystalModel(true.real_space[None], (14.0, 14.0, 14.0), 400.0)
    (image,) = bragg_photons(small, light, model, KNOWN.table(F), fluence_per_m2=1e24).panels
    y, x = np.unravel_index(np.argmax(image[40:-40, 40:-40]), (1120, 1120)) + np.array([40, 40])
    window = image[y - 30 : y + 31, x - 30 : x + 31]
    weight = window * (window > 0.01 * window.max())
    at = np.mgrid[-30:31, -30:31].reshape(2, -1)
    spread = np.cov(at, aweights=weight.ravel())
    where = ShotScene(small, light, true, KNOWN.table(F), 1e24)
    parameters = ShotParameters(true.cell, (14.0, 14.0, 14.0), 1.0)
    (width,) = spot_widths_px(where, parameters, np.array([0]), np.array([[x + 0.5, y + 0.5]]))
    assert width == pytest.approx(2.355 * np.sqrt(np.linalg.eigvalsh(spread)[0]), rel=0.06)
    assert [subpixels_for(width) for width in (3.0, 1.2, 0.7, 0.3, 0.01)] == [1, 1, 2, 4, 6]


def test_restraints_hold_what_the_data_would_move() -> None:
    true = crystal(2)
    image = noisy(photons(true, KNOWN, F, detector(), beam()), 2)
    free, _ = refined(true, true, image)
    held, _ = refined(true, true, image, restraints=CONFIG.restraints.model_copy(update={"n_cells": 1e-4}))
    assert abs(held.parameters.n_cells[0] - 12) < 0.3 < abs(free.parameters.n_cells[0] - 12)


def test_cells_move_as_their_symmetry_allows() -> None:
    free = {
        "P1": 6,
        "P21": 4,
        "C2": 4,
        "P212121": 3,
        "P43212": 2,
        "P6122": 2,
        "R3:H": 2,
        "R3:R": 2,
        "P213": 1,
    }
    cells = {"P6122": (90, 90, 130, 90, 90, 120), "R3:H": (90, 90, 130, 90, 90, 120), "R3:R": (60, 60, 60, 80, 80, 80)}
    cells |= {"P43212": (79, 79, 38, 90, 90, 90), "P213": (70, 70, 70, 90, 90, 90), "P1": (40, 50, 60, 80, 95, 100)}
    cells |= {"P21": (40, 50, 60, 90, 100, 90), "C2": (40, 50, 60, 90, 100, 90), "P212121": (40, 50, 60, 90, 90, 90)}
    for name, count in free.items():
        directions = free_cell_directions(cells[name], space_group(name))
        assert directions.shape == (count, 6), name
        for direction in directions:
            assert 1 in direction
    assert free_cell_directions(cells["R3:R"], space_group("R3:R")) == pytest.approx(
        np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    )


def test_planes_are_fitted_under_outliers() -> None:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:15, :15] - 7.0
    plane = 30 + 0.8 * x - 0.5 * y
    data = rng.poisson(np.broadcast_to(plane, (200, 15, 15))).astype(float)
    data[:, 7, 7] += 500
    data[:, 1, 2] += 90
    planes = fit_planes(data, np.broadcast_to(~central(15, 4.0), data.shape))
    assert planes.good.all()
    assert planes.coefficients.mean(axis=0) == pytest.approx([30, 0.8, -0.5], abs=0.1)
    assert planes.values(15).mean(axis=0) == pytest.approx(plane, abs=0.6)


def test_likelihood_against_closed_forms() -> None:
    rng = np.random.default_rng(1)
    model = rng.uniform(1, 50, 40)
    data = rng.poisson(model).astype(float)
    found = pixel_likelihood(data, model, 2.0)
    variance = model + 4
    expected = 0.5 * np.sum(np.log(2 * np.pi * variance) + (data - model) ** 2 / variance)
    assert found.value == pytest.approx(expected)
    h = 1e-5
    for i in range(5):
        up, down = model.copy(), model.copy()
        up[i] += h
        down[i] -= h
        slope = (pixel_likelihood(data, up, 2.0).value - pixel_likelihood(data, down, 2.0).value) / (2 * h)
        assert found.slope[i] == pytest.approx(slope, abs=1e-6)


def test_minimization_stays_within_bounds() -> None:
    def bowl(x: np.ndarray) -> Evaluation:
        return Evaluation(float(np.sum((x - [3, -2]) ** 2)), 2 * (x - [3, -2]), 2 * np.eye(2))

    ended = minimize(bowl, np.zeros(2), (np.array([-1.0, -5.0]), np.array([1.0, 5.0])))
    assert ended.x == pytest.approx([1, -2], abs=0.03)
    assert ended.converged
    assert ended.at_bound.tolist() == [True, False]


@pytest.mark.parametrize("shape", ["gaussian", "fiber"])
def test_point_spread_of_boxes_is_that_of_panels(shape: str) -> None:
    psf = PsfConfig(type=shape, fwhm_mm=0.3, reach_px=6)
    image = np.random.default_rng(0).gamma(1, 10, (15, 15))
    by_box = image.ravel() @ spread_matrix(15, psf, (0.1, 0.12))
    assert by_box.reshape(15, 15) == pytest.approx(spread(image, psf_kernel(psf, (0.1, 0.12))), abs=1e-8)
