"""Views and their derivatives against sums written out, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.spi import gridding, rotations
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels, odd_fast_length
from exafel.spi.slicing import even, slices, slices_with_gradient

CUBE = Cube(11, 5.0)


@pytest.fixture
def model() -> np.ndarray:
    rng = np.random.default_rng(4)
    return even(rng.normal(size=(11, 11, 11)).astype(np.float32) * np.exp(-(CUBE.radius**2) / 8)).astype(np.float32)


@pytest.fixture
def pixels() -> Pixels:
    s = np.random.default_rng(5).uniform(-0.05, 0.05, size=(3, 40))
    return Pixels(s, np.arange(40))


def direct(model: np.ndarray, q: np.ndarray, s: np.ndarray) -> np.ndarray:
    line = (np.arange(11) - 5) * 5.0
    x = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.array([np.cos(2 * np.pi * (x @ (rotations.matrices(one).T @ s))).T @ model.ravel() for one in q])


def test_views_of_two_models_in_one_transform_are_the_sums(model: np.ndarray, pixels: Pixels, backend: Backend) -> None:
    q = rotations.random_quaternions(5, np.random.default_rng(6))
    other = (model * 0.5)[::-1, :, :].copy()
    views = slices([model, even(other)], q, CUBE, pixels, backend)
    for found, volume in zip(views, (model, even(other)), strict=True):
        expected = direct(volume.astype(np.float64), q, pixels.s)
        np.testing.assert_allclose(found, expected, atol=3e-4 * np.abs(expected).max())


def test_derivatives_are_those_of_small_rotations(model: np.ndarray, pixels: Pixels, backend: Backend) -> None:
    q = rotations.random_quaternions(3, np.random.default_rng(7))
    view, derivative = slices_with_gradient(model, q, CUBE, pixels, backend)
    np.testing.assert_allclose(view, direct(model, q, pixels.s), atol=3e-4 * np.abs(view).max())
    step = 1e-4
    for axis in range(3):
        turn = rotations.from_vectors(-step * np.eye(3)[axis])
        moved = [direct(model, rotations.multiply(q, sign), pixels.s) for sign in (turn, rotations.conjugate(turn))]
        expected = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(derivative[:, axis], expected, atol=2e-3 * np.abs(expected).max())


def test_gridding_agrees_with_finufft(backend: Backend) -> None:
    plain = gridding.GriddingTransforms(np, np.fft)
    rng = np.random.default_rng(8)
    points = rng.uniform(-np.pi, np.pi, size=(3, 300)).astype(np.float32)
    strengths = (rng.normal(size=300) + 1j * rng.normal(size=300)).astype(np.complex64)
    expected = backend.nufft.type1(points, strengths, 9)
    np.testing.assert_allclose(plain.type1(points, strengths, 9), expected, atol=5e-4 * np.abs(expected).max())
    modes = (rng.normal(size=(9, 9, 9)) + 0j).astype(np.complex64)
    expected = backend.nufft.type2(points, modes)
    np.testing.assert_allclose(plain.type2(points, modes), expected, atol=5e-4 * np.abs(expected).max())


def test_cubes_hold_the_autocorrelation_and_have_fast_lengths() -> None:
    assert [odd_fast_length(n) for n in (45, 46, 82, 101)] == [45, 49, 99, 105]
    cube = Cube.for_particle(100.0, 8.0)
    assert cube.box_angstrom >= 200
    assert cube.d_min_angstrom == 8.0
