"""Phases found again from amplitudes alone, and curves against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from exafel.spi import rotations
from exafel.spi.alignment import align_intensities, orientation_errors, place_density, rotated_transform
from exafel.spi.backend import Backend
from exafel.spi.fsc import Curve, fsc, prtf
from exafel.spi.grids import Cube
from exafel.spi.particles import Particle
from exafel.spi.phasing import Amplitudes, Pass, Phaser, PhasingOptions, autocorrelation
from exafel.spi.symmetry import Cosets, symmetrised_density

CUBE = Cube.for_particle(50.0, 5.0)


@pytest.fixture(scope="module")
def density(particle: Particle) -> np.ndarray:
    return particle.density(CUBE.m, CUBE.voxel_angstrom).astype(np.float32)


def transform(density: np.ndarray) -> np.ndarray:
    return scipy.fft.rfftn(np.fft.ifftshift(density))


@pytest.mark.parametrize("algorithm", ["raar", "hio", "dm"])
def test_phases_are_found_from_a_random_start(algorithm: str, density: np.ndarray, backend: Backend) -> None:
    amplitudes = Amplitudes.of_autocorrelation(autocorrelation(density, CUBE, backend), CUBE, backend)
    passes = [Pass(algorithm, 80, True)] * 3 + [Pass("er", 40)]  # type: ignore[arg-type] # pytest's parameters are plain str
    phaser = Phaser(amplitudes, CUBE.ball(25.0), CUBE, PhasingOptions(tuple(passes)), backend)
    curves = []
    for seed in range(3):
        found = phaser.run(None, None, np.random.default_rng(seed))
        assert found.r_factor < 0.5
        placed = place_density(transform(density), found.density, np.array([1.0, 0, 0, 0]), CUBE, backend)
        curves.append(fsc(transform(density), placed.transform, CUBE))
    assert max(np.nanmean(curve.value) for curve in curves) > 0.8


def test_the_autocorrelation_is_the_sum_written_out(backend: Backend) -> None:
    cube = Cube(9, 1.0)
    rho = np.zeros((9, 9, 9), dtype=np.float32)
    rho[4, 4, 4], rho[6, 4, 3] = 2.0, 3.0
    a = autocorrelation(rho, cube, backend)
    expected = np.zeros_like(rho)
    expected[4, 4, 4] = 13.0
    expected[6, 4, 3] = expected[2, 4, 5] = 6.0
    np.testing.assert_allclose(a, expected, atol=1e-4)


def test_a_turned_shifted_inverted_density_is_brought_back(particle: Particle, backend: Backend) -> None:
    density = particle.density(CUBE.m, CUBE.voxel_angstrom).astype(np.float32)
    turn = rotations.random_quaternions(1, np.random.default_rng(5))[0]
    moved = Particle(
        "moved",
        tuple(
            type(part)(part.element, -(part.positions @ rotations.matrices(turn).T) + [3.0, -2.0, 1.0], part.weights)
            for part in particle.parts
        ),
        particle.n_atoms,
    )
    other = moved.density(CUBE.m, CUBE.voxel_angstrom).astype(np.float32)
    first, second = (autocorrelation(x, CUBE, backend) for x in (density, other))
    found = align_intensities(first, second, CUBE, 50.0, backend, d_min_angstrom=12.0)
    found = align_intensities(first, second, CUBE, 50.0, backend, found.quaternion)
    assert found.correlation > 0.98
    assert rotations.angle_deg(found.quaternion, rotations.conjugate(turn)) < 0.5
    placed = place_density(transform(density), other, found.quaternion, CUBE, backend)
    assert placed.inverted
    assert fsc(transform(density), placed.transform, CUBE).value[:-2].min() > 0.95


def test_orientation_errors_are_modulo_frame_symmetry_and_half_turn() -> None:
    rng = np.random.default_rng(6)
    group = rotations.point_group("D2")
    true = rotations.random_quaternions(200, rng)
    frame = rotations.random_quaternions(1, rng)[0]
    noise = rotations.from_vectors(rng.normal(scale=np.radians(2) / np.sqrt(3), size=(200, 3)))
    found = rotations.multiply(
        rotations.multiply(rotations.multiply(true, noise), group[rng.integers(4, size=200)]), frame
    )
    found[::2] = rotations.multiply(rotations.about_z(np.pi), found[::2])
    errors, _ = orientation_errors(found, true, group)
    assert 1.2 < np.median(errors) < 2.4
    assert np.median(orientation_errors(rotations.random_quaternions(200, rng), true, group)[0]) > 15


def test_resolutions_are_read_by_interpolation() -> None:
    s = np.array([0.01, 0.02, 0.03, 0.04])
    assert Curve(s, np.array([1.0, 0.9, 0.1, 0.9])).resolution(0.5) == pytest.approx(1 / 0.025)
    assert Curve(s, np.array([0.9, 0.9, 0.8, 0.7])).resolution(0.5) == pytest.approx(25.0)
    assert Curve(s, np.array([0.4, 0.9, 0.8, 0.7])).resolution(0.5) is None
    assert Curve(s, np.array([1.0, np.nan, 0.5, 0.0])).resolution(0.25) == pytest.approx(1 / 0.035)


def test_shell_correlation_and_phase_transfer_of_known_mixtures(density: np.ndarray) -> None:
    F = transform(density)
    np.testing.assert_allclose(fsc(F, 3 * F, CUBE).value, 1, atol=1e-6)
    np.testing.assert_allclose(fsc(F, 1j * F, CUBE).value, 0, atol=1e-6)
    np.testing.assert_allclose(prtf([F, F], CUBE).value, 1, atol=1e-6)
    np.testing.assert_allclose(prtf([F, 1j * F], CUBE).value, 0.5**0.5, atol=1e-6)


def test_the_support_has_the_volume_that_is_known(density: np.ndarray, backend: Backend) -> None:
    amplitudes = Amplitudes.of_autocorrelation(autocorrelation(density, CUBE, backend), CUBE, backend)
    options = PhasingOptions((Pass("raar", 20, True), Pass("er", 5)), volume_voxels=700)
    found = Phaser(amplitudes, CUBE.ball(25.0), CUBE, options, backend).run(None, None, np.random.default_rng(0))
    assert found.support.sum() == 700
    assert (found.density[~found.support] == 0).all()


def test_a_symmetric_density_is_found_with_its_symmetry(density: np.ndarray, backend: Backend) -> None:
    group = rotations.point_group("D2")
    copies = [rotated_transform(density, q, CUBE, backend) for q in group]
    whole = np.fft.fftshift(scipy.fft.irfftn(np.mean(copies, axis=0), s=density.shape)).astype(np.float32)
    shifted = np.roll(whole, (2, -1, 1), axis=(0, 1, 2))
    centred = symmetrised_density(shifted, CUBE, group, backend)
    line = np.arange(CUBE.m) - CUBE.m // 2
    for axis in range(3):  # all three two-fold axes: the other two coordinates change sign
        turned = centred[tuple(slice(None) if i == axis else slice(None, None, -1) for i in range(3))]
        np.testing.assert_allclose(turned, centred, atol=2e-3 * centred.max())
        assert abs(np.maximum(centred, 0).sum(axis=tuple({0, 1, 2} - {axis})) @ line) < 0.05 * centred.sum()
    amplitudes = Amplitudes.of_autocorrelation(autocorrelation(whole, CUBE, backend), CUBE, backend)
    passes = (*[Pass("raar", 60, True)] * 3, Pass("er", 30))
    found = Phaser(amplitudes, CUBE.ball(25.0), CUBE, PhasingOptions(passes, group=group), backend).run(
        None, None, np.random.default_rng(1)
    )
    turned = found.density[:, ::-1, ::-1]
    assert np.corrcoef(turned.ravel(), found.density.ravel())[0, 1] > 0.97
    placed = place_density(transform(whole), found.density, np.array([1.0, 0, 0, 0]), CUBE, backend)
    assert np.nanmean(fsc(transform(whole), placed.transform, CUBE).value) > 0.8


@pytest.mark.parametrize("edge_weight", [1.0, 0.6])
@pytest.mark.parametrize("algorithm", ["raar", "hio", "dm", "sf"])
def test_iterations_are_their_formulas_written_out(
    algorithm: str, edge_weight: float, density: np.ndarray, backend: Backend
) -> None:
    amplitudes = Amplitudes.of_autocorrelation(autocorrelation(density, CUBE, backend), CUBE, backend, edge_weight)
    radius = CUBE.half_radius / (CUBE.m / 2)  # 1 at the last resolution
    weight = np.where(radius > 1, 0, np.minimum(1, 1 - (1 - edge_weight) * (radius - 0.5) / 0.5))
    inside, beta = np.fft.ifftshift(CUBE.ball(20.0)), 0.8
    rho = np.random.default_rng(3).normal(size=density.shape).astype(np.float32)

    def project_amplitudes(x: np.ndarray) -> np.ndarray:
        F = scipy.fft.rfftn(x)
        measured = amplitudes.values * np.exp(1j * np.angle(F))
        return scipy.fft.irfftn(weight * measured + (1 - weight) * F, s=x.shape)

    def project_support(x: np.ndarray) -> np.ndarray:
        return np.where(inside & (x > 0), x, 0)

    g = project_amplitudes(rho)
    reflected = 2 * g - rho
    expected = {
        "raar": 0.5 * beta * (2 * project_support(reflected) - reflected + rho) + (1 - beta) * g,
        "hio": np.where(inside & (g > 0), g, rho - beta * g),
        "dm": rho + project_support(2 * g - rho) - g,
        "sf": 2 * project_support(g) - g,
    }[algorithm]
    options = PhasingOptions((Pass(algorithm, 1),), beta=beta)  # type: ignore[arg-type] # as above
    found = Phaser(amplitudes, CUBE.ball(20.0), CUBE, options, backend)._step(algorithm, rho.copy(), inside)  # type: ignore[arg-type] # as above
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "exact", "turns"), [("C3", 1, 2), ("D8", 8, 1), ("O", 24, 0), ("I", 12, 4)])
def test_a_group_is_averaged_over_as_by_all_of_its_rotations(
    name: str, exact: int, turns: int, density: np.ndarray, backend: Backend
) -> None:
    group = rotations.point_group(name)
    cosets = Cosets.of(group)
    assert (len(cosets.exact), len(cosets.turns)) == (exact, turns)
    identity = np.array([1.0, 0, 0, 0])
    centred = rotated_transform(symmetrised_density(density, CUBE, identity[None], backend), identity, CUBE, backend)
    moved = np.fft.fftshift(scipy.fft.irfftn(centred, s=density.shape)).astype(np.float32)
    copies = [rotated_transform(moved, q, CUBE, backend) for q in group]
    found = transform(symmetrised_density(density, CUBE, group, backend))
    np.testing.assert_allclose(found, np.mean(copies, axis=0), atol=1e-4 * abs(found).max())
