from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from exafel.arrays import FloatArray
from exafel.config.indexing import RefinementConfig
from exafel.io.crystal import cell_from_basis, space_group
from exafel.io.expt import read_expt
from exafel.io.geometry import Beam, Spectrum
from exafel.io.refl import read_refl
from exafel.stills import refinement
from exafel.stills.cell_symmetry import (
    centring_vectors,
    constrain_setting,
    invariant_metrics,
    lattice_points,
    reciprocal_metric,
    reference_setting,
)
from exafel.stills.ewald import rotate_to_ewald
from exafel.stills.misorientation import misorientation_deg
from exafel.stills.refinement import Refined, refine_lattice
from exafel.stills.setting import CellRestraint, move_setting, setting_derivatives
from exafel.stills.spectrum import estimate_bandwidth, gaussian_spectrum, selected_wave_numbers, wave_numbers
from exafel.stills.spot_errors import fit_log_variance, rayleigh_outliers
from exafel.stills.spot_vectors import spot_vectors

CELLS = {
    "P 1": (41.0, 52.0, 67.0, 81.0, 95.0, 103.0),
    "P 1 21 1": (41.0, 52.0, 67.0, 90.0, 95.0, 90.0),
    "C 2 2 21": (60.0, 90.0, 120.0, 90.0, 90.0, 90.0),
    "P 43 21 2": (79.1, 79.1, 38.4, 90.0, 90.0, 90.0),
    "P 61 2 2": (93.0, 93.0, 130.4, 90.0, 90.0, 120.0),
    "R 3 :H": (80.0, 80.0, 120.0, 90.0, 90.0, 120.0),
    "R 3 :R": (70.0, 70.0, 70.0, 75.0, 75.0, 75.0),
    "I 2 3": (90.0, 90.0, 90.0, 90.0, 90.0, 90.0),
}
N_FREE = dict(zip(CELLS, (6, 4, 3, 2, 2, 2, 2, 1), strict=True))


def hall(name: str) -> str:
    return str(space_group(name).hall)


@pytest.mark.parametrize("name", CELLS)
def test_a_point_group_leaves_the_right_number_of_cell_parameters(name: str) -> None:
    metrics = invariant_metrics(hall(name))
    assert len(metrics) == N_FREE[name]
    for operation in space_group(name).operations().sym_ops:
        rotation = np.array(operation.rot) / gemmi.Op.DEN
        np.testing.assert_allclose(rotation @ metrics @ rotation.T, metrics, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_the_known_cell_is_within_its_own_symmetry(name: str) -> None:
    cell = cell_from_basis(np.linalg.inv(reference_setting(CELLS[name], hall(name))))
    np.testing.assert_allclose(cell, CELLS[name], rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(list(CELLS)), seed=st.integers(0, 10_000))
def test_a_step_stays_within_the_symmetry_and_its_derivatives_are_right(
    synthetic: SimpleNamespace, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    metrics = invariant_metrics(hall(name))
    A = constrain_setting(synthetic.setting(CELLS[name], rng), hall(name))
    step = 0.01 * rng.normal(size=3 + len(metrics))
    moved = move_setting(A, metrics, step)
    free = metrics.reshape(len(metrics), 9)
    outside = reciprocal_metric(moved).ravel() - free.T @ (free @ reciprocal_metric(moved).ravel())
    np.testing.assert_allclose(outside, 0.0, atol=1e-12)
    for number, derivative in enumerate(setting_derivatives(A, metrics)):
        delta = np.zeros(3 + len(metrics))
        delta[number] = 1e-5
        numerical = (move_setting(A, metrics, delta) - move_setting(A, metrics, -delta)) / 2e-5
        np.testing.assert_allclose(derivative @ A, numerical, atol=1e-8 * np.abs(A).max() / 1e-2)


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(list(CELLS)), seed=st.integers(0, 10_000))
def test_the_gradient_of_the_cost_is_the_central_difference(synthetic: SimpleNamespace, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = constrain_setting(synthetic.setting(CELLS[name], rng), hall(name))
    shot = synthetic.shot([A], rng, d_min=4.0, hall=hall(name))
    vectors = spot_vectors(shot.spots, shot.detector, shot.beam, floor_px=0.1)
    restraint = CellRestraint(reciprocal_metric(A), 0.01)
    metrics = invariant_metrics(hall(name))
    fit = refinement._Fit(shot.hkl, vectors, np.ones(len(vectors), dtype=bool), None, RefinementConfig())
    assert fit.prepare(A, 3)
    _, gradient, hessian = refinement._normal_equations(A, metrics, fit, restraint)
    scale = 1.0 / np.sqrt(np.diag(hessian))
    for number in range(len(gradient)):
        delta = np.zeros(len(gradient))
        delta[number] = 1e-3 * scale[number]
        up = refinement._normal_equations(move_setting(A, metrics, delta), metrics, fit, restraint)[0]
        down = refinement._normal_equations(move_setting(A, metrics, -delta), metrics, fit, restraint)[0]
        assert gradient[number] * scale[number] == pytest.approx((up - down) / 2e-3, rel=1e-3, abs=1e-3)


def refine(A: FloatArray, name: str, shot: object, **options: object) -> Refined:
    vectors = spot_vectors(shot.spots, shot.detector, shot.beam, floor_px=0.1)
    reference = reference_setting(CELLS[name], hall(name))
    refined = refine_lattice(
        A,
        hall(name),
        vectors,
        shot.beam,
        RefinementConfig(**options),
        hkl_tolerance=0.3,
        restraint=CellRestraint(reciprocal_metric(reference), 0.02),
        d_min_start=8.0,
    )
    assert refined is not None
    return refined


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(list(CELLS)), seed=st.integers(0, 10_000))
def test_recovers_orientation_and_cell(synthetic: SimpleNamespace, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true_cell = np.array(CELLS[name]) * [*np.full(3, 1 + 0.003 * rng.normal()), 1, 1, 1]
    truth = synthetic.setting(tuple(true_cell), rng)
    shot = synthetic.shot([truth], rng, hall=hall(name), n_foreign=15)
    turn = Rotation.from_rotvec(np.radians(0.3) * rng.normal(size=3) / np.sqrt(3)).as_matrix()
    start = constrain_setting(turn @ truth @ np.diag(true_cell[:3] / CELLS[name][:3]), hall(name))
    refined = refine(start, name, shot)
    assert misorientation_deg(refined.A, truth, space_group(name), equivalence="none") < 0.08
    cell = cell_from_basis(np.linalg.inv(refined.A))
    np.testing.assert_allclose(cell[:3], true_cell[:3], rtol=2.5e-3)
    lattice = shot.hkl.any(axis=1)
    right = (refined.hkl == shot.hkl[refined.rows]).all(axis=1)
    assert np.count_nonzero(right & refined.used) > 0.85 * np.count_nonzero(lattice)
    assert np.count_nonzero(refined.used & ~lattice[refined.rows]) <= 3


def test_exact_positions_of_reflections_near_the_sphere_give_the_truth(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(11)
    truth = synthetic.setting(CELLS["P 61 2 2"], rng)
    shot = synthetic.shot([truth], rng, sigma_rlp=1e-5, sigma_px=0.0, d_min=1.6)
    start = constrain_setting(Rotation.from_rotvec([1e-3, -1e-3, 5e-4]).as_matrix() @ truth, hall("P 61 2 2"))
    refined = refine(start, "P 61 2 2", shot)
    assert misorientation_deg(refined.A, truth, space_group("P 61 2 2")) < 1e-3
    np.testing.assert_allclose(cell_from_basis(np.linalg.inv(refined.A)), CELLS["P 61 2 2"], rtol=1e-5)
    assert np.abs(refined.residual[:, :2]).max() < 0.02


@pytest.mark.parametrize("bandwidth", [0.0, 2e-3, 3e-3])
def test_an_unknown_bandwidth_is_found_from_the_spots(synthetic: SimpleNamespace, bandwidth: float) -> None:
    name, found, narrowed = "P 43 21 2", [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = constrain_setting(synthetic.setting(CELLS[name], rng), hall(name))
        shot = synthetic.shot([truth], rng, bandwidth=bandwidth, sigma_rlp=2e-4, d_min=2.0)
        vectors = spot_vectors(shot.spots, shot.detector, shot.beam, floor_px=0.1)
        displacement = np.einsum("nij,nj->ni", vectors.frames, shot.hkl @ truth.T - vectors.rlp)
        sigma = estimate_bandwidth(displacement, vectors, np.ones(len(vectors), dtype=bool))
        found.append(sigma / vectors.wave_number)
        rms = [
            np.sqrt((refined.residual[refined.used, 0] ** 2).mean())
            for refined in (refine(truth, name, shot, estimate_bandwidth=wanted) for wanted in (True, False))
        ]
        narrowed.append(rms[0] / rms[1])
    assert np.median(found) == pytest.approx(bandwidth, rel=0.2)
    assert np.median(narrowed) == pytest.approx(1.0) if bandwidth == 0 else np.median(narrowed) < 0.8


def test_the_cell_can_be_held(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(12)
    truth = synthetic.setting(CELLS["P 61 2 2"], rng)
    shot = synthetic.shot([truth], rng)
    start = constrain_setting(Rotation.from_rotvec([2e-3, 0, 1e-3]).as_matrix() @ truth, hall("P 61 2 2"))
    refined = refine(start, "P 61 2 2", shot, refine_cell=False)
    np.testing.assert_allclose(cell_from_basis(np.linalg.inv(refined.A)), CELLS["P 61 2 2"], rtol=1e-9)
    assert misorientation_deg(refined.A, truth, space_group("P 61 2 2")) < 0.03


def test_too_few_spots_give_nothing(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(13)
    truth = synthetic.setting(CELLS["P 1"], rng)
    shot = synthetic.shot([truth], rng)
    vectors = spot_vectors(shot.spots.select(np.arange(5)), shot.detector, shot.beam, floor_px=0.1)
    restraint = CellRestraint(reciprocal_metric(truth), 0.02)
    options = {"hkl_tolerance": 0.3, "restraint": restraint, "d_min_start": 8.0}
    assert refine_lattice(truth, "P 1", vectors, shot.beam, RefinementConfig(), **options) is None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), wavelength=st.floats(0.7, 2.0))
def test_rotation_onto_the_ewald_sphere_keeps_the_length(seed: int, wavelength: float) -> None:
    rng = np.random.default_rng(seed)
    s0 = Rotation.random(random_state=seed).apply([0.0, 0.0, 1.0])
    r = rng.normal(size=(40, 3))
    r *= (rng.uniform(0.05, 0.9, 40) / wavelength / np.linalg.norm(r, axis=1))[:, None]
    s1, delta_psi = rotate_to_ewald(r, s0, 1 / wavelength)
    np.testing.assert_allclose(np.linalg.norm(s1, axis=1), 1 / wavelength, rtol=1e-12)
    rotated = s1 - s0 / wavelength
    np.testing.assert_allclose(np.linalg.norm(rotated, axis=1), np.linalg.norm(r, axis=1), rtol=1e-9)
    cosine = (rotated * r).sum(axis=1) / (r**2).sum(axis=1)
    np.testing.assert_allclose(np.cos(delta_psi), cosine, atol=1e-9)
    outside = np.linalg.norm(s0 / wavelength + r, axis=1) > 1 / wavelength
    clear = np.abs(delta_psi) > 1e-9
    np.testing.assert_array_equal((delta_psi > 0)[clear], outside[clear])


@pytest.mark.data
def test_rays_and_angles_are_those_of_dials(shared_data: Path) -> None:
    folder = shared_data / "dials_thaumatin"
    experiments, table = read_expt(folder / "idx-0000_integrated.expt"), read_refl(folder / "idx-0000_integrated.refl")
    for number, experiment in enumerate(experiments):
        predicted = table.select(table["id"] == number)
        beam, crystal = experiment.beam, experiment.crystal
        assert crystal is not None
        r = predicted["miller_index"] @ crystal.A.T
        s1, delta_psi = rotate_to_ewald(r, beam.s0 * beam.wavelength_angstrom, 1 / beam.wavelength_angstrom)
        np.testing.assert_allclose(s1, predicted["s1"], atol=1e-12)
        # DIALS counts points inside the sphere as positive
        np.testing.assert_allclose(-delta_psi, predicted["delpsical.rad"], atol=1e-10)


def test_variances_follow_a_power_law_of_the_covariates() -> None:
    rng = np.random.default_rng(14)
    covariates = rng.normal(size=(4000, 2))
    true = np.exp(-2.0 + 0.7 * covariates[:, 0] - 0.4 * covariates[:, 1])
    moments = np.column_stack([true, 3 * true]) * rng.normal(size=(4000, 2)) ** 2
    fitted = fit_log_variance(moments, covariates, np.ones(4000, dtype=bool))
    # clipping at nine variances loses three per cent of a normal law's variance
    np.testing.assert_allclose(fitted[:, 0] / true, 0.97, atol=0.2)
    np.testing.assert_allclose(fitted[:, 1] / (3 * true), 0.97, atol=0.2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 500), bad=st.integers(0, 6), degrees=st.sampled_from([1, 2]))
def test_outliers_are_found_and_good_spots_kept(seed: int, n: int, bad: int, degrees: int) -> None:
    squared = chi2.rvs(degrees, size=n, random_state=seed) * 4.0
    squared[:bad] = 4.0 * 100.0
    found = rayleigh_outliers(squared, degrees)
    assert found[:bad].all()
    assert np.count_nonzero(found[bad:]) <= 4


def test_a_narrow_crystal_selects_one_channel_and_a_broad_one_the_mean(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(15)
    shot = synthetic.shot([synthetic.setting(CELLS["P 43 21 2"], rng)], rng, d_min=2.0)
    vectors = spot_vectors(shot.spots, shot.detector, shot.beam, floor_px=0.1)
    spectrum = gaussian_spectrum(2e-3)
    slope = vectors.s1_unit @ vectors.s0_unit - 1
    offset = 1e-3  # every reflection is on the sphere of this channel
    total = (slope**2 * spectrum.variance) * (1 + 1e-12)
    narrow, spread = selected_wave_numbers(spectrum, -slope * offset, vectors, total)
    np.testing.assert_allclose(narrow - vectors.wave_number, offset, rtol=0.06)
    assert np.all(spread < 0.06 * total)
    broad, _ = selected_wave_numbers(spectrum, -slope * offset, vectors, np.full(len(vectors), 1.0))
    np.testing.assert_allclose(broad, vectors.wave_number, atol=1e-6)


def test_joining_channels_keeps_mean_and_width_of_a_spectrum() -> None:
    rng = np.random.default_rng(16)
    energy = np.linspace(9450.0, 9550.0, 400)
    weight = np.exp(-0.5 * ((energy - 9503.0) / 12.0) ** 2) * rng.exponential(size=400)
    spectrum = Spectrum(12398.4198 / energy, weight)
    beam = Beam(spectrum.mean_wavelength(), spectrum=spectrum)
    channels = wave_numbers(beam)
    assert channels is not None
    assert len(channels.weight) <= 41
    assert channels.weight.sum() == pytest.approx(1.0)
    k = energy / 12398.4198
    assert channels.weight @ channels.offset == pytest.approx(0.0, abs=2e-6)
    assert channels.variance == pytest.approx(np.cov(k, aweights=weight, bias=True), rel=0.02)
    assert wave_numbers(Beam(1.3)) is None


def test_centring_leaves_the_reflections_that_it_must() -> None:
    hkl = np.stack(np.meshgrid(*[np.arange(-4.0, 5.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    h, k, ell = hkl.T
    assert len(centring_vectors(hall("P 43 21 2"))) == 0
    assert lattice_points(hkl, hall("P 43 21 2")).all()
    np.testing.assert_array_equal(lattice_points(hkl, hall("C 2 2 21")), (h + k) % 2 == 0)
    np.testing.assert_array_equal(lattice_points(hkl, hall("I 2 3")), (h + k + ell) % 2 == 0)
    np.testing.assert_array_equal(lattice_points(hkl, hall("R 3 :H")), (-h + k + ell) % 3 == 0)
