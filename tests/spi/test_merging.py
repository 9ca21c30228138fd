"""Normal equations against the matrices that they stand for, and in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.errors import ExafelError
from exafel.spi import rotations
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels
from exafel.spi.merging import NormalEquations, NormalSums, Units, add_images, solve_path
from exafel.spi.slicing import even, slices

CUBE = Cube(9, 5.0)


@pytest.fixture
def problem(backend: Backend) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Pixels]:
    """A true autocorrelation within a ball, orientations, images, weights, pixels."""
    rng = np.random.default_rng(1)
    truth = even(rng.normal(size=(9, 9, 9)).astype(np.float32)) * CUBE.ball(20.0)
    pixels = Pixels(rng.uniform(-0.055, 0.055, size=(3, 60)), np.arange(60))
    q = rotations.random_quaternions(60, rng)
    images = slices([truth], q, CUBE, pixels, backend)[0]
    weight = rng.uniform(0.5, 1.5, size=images.shape).astype(np.float32)
    return truth, q, images, weight, pixels


def equations(problem: tuple, backend: Backend, parts: int = 1) -> NormalEquations:
    _, q, images, weight, pixels = problem
    units = Units(float(weight.sum()), float((weight * np.abs(images)).sum()))
    sums = NormalSums.empty(CUBE)
    for rows in np.array_split(np.arange(len(q)), parts):
        add_images(sums, units, images[rows], weight[rows], q[rows], CUBE, pixels, backend)
    return NormalEquations.of(sums, units, CUBE, CUBE.ball(20.0), backend)


def matrix(problem: tuple) -> np.ndarray:
    """Type-2 transform as a matrix, shape (images * pixels, m^3)."""
    _, q, _, _, pixels = problem
    line = (np.arange(9) - 4) * 5.0
    x = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    k = np.concatenate([(rotations.matrices(one).T @ pixels.s).T for one in q])
    return np.cos(2 * np.pi * (k @ x.T))


def test_the_operator_is_the_matrix_written_out(problem: tuple, backend: Backend) -> None:
    truth, _, images, weight, _ = problem
    made = equations(problem, backend)
    A, inside = matrix(problem), CUBE.ball(20.0)
    w = weight.ravel() / weight.sum()
    expected = (A.T @ (w * (A @ truth.ravel()))).reshape(truth.shape) * inside
    np.testing.assert_allclose(made.apply(truth), expected, atol=2e-3 * np.abs(expected).max())
    right = (A.T @ (w * images.ravel())).reshape(truth.shape) * inside
    np.testing.assert_allclose(made.right, right, atol=2e-3 * np.abs(right).max())


def test_the_solution_predicts_views_that_it_has_not_seen(problem: tuple, backend: Backend) -> None:
    truth, _, _, _, pixels = problem
    near = pixels.within(1 / 0.05)  # in the ball that the images cover evenly
    solution = solve_path(equations(problem, backend), [1e-1, 1e-5], None, 200, 1e-4)[-1]
    q = rotations.random_quaternions(20, np.random.default_rng(2))
    found, expected = (slices([a], q, CUBE, near, backend)[0] for a in (solution.a, truth))
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)
    np.testing.assert_array_equal(solution.a[~CUBE.ball(20.0)], 0)


def test_sums_of_pieces_are_exact_in_any_order(problem: tuple, backend: Backend) -> None:
    _, q, images, weight, pixels = problem
    units = Units(float(weight.sum()), float((weight * np.abs(images)).sum()))
    pieces = []
    for rows in np.array_split(np.arange(len(q)), 5):
        pieces.append(NormalSums.empty(CUBE))
        add_images(pieces[-1], units, images[rows], weight[rows], q[rows], CUBE, pixels, backend)
    for name in ("kernel", "right"):
        forward = sum(getattr(item, name) for item in pieces)
        backward = (getattr(pieces[4], name) + getattr(pieces[2], name)) + (
            getattr(pieces[0], name) + getattr(pieces[3], name) + getattr(pieces[1], name)
        )
        np.testing.assert_array_equal(forward, backward)
    whole = equations(problem, backend)
    np.testing.assert_allclose(equations(problem, backend, 5).right, whole.right, atol=1e-3 * np.abs(whole.right).max())


def test_sums_hold_no_more_than_a_ball_needs() -> None:
    m = 105  # a chaperonin at 8.2 angstrom
    everything = 4 * (4 * m**3 + (m // 2 + 1) * m**2)
    assert np.pi / 6 * everything == pytest.approx(NormalSums.empty(Cube(m, 4.1)).nbytes, rel=0.03)


def test_what_is_not_finite_is_left_out_and_said(problem: tuple, backend: Backend) -> None:
    made = equations(problem, backend)
    with np.errstate(all="ignore"):
        solutions = solve_path(made, [1e38 * 10, 1e-2], None, 20, 1e-3)
        assert [item.lam for item in solutions] == [1e-2]
        with pytest.raises(ExafelError, match="no finite intensities"):
            solve_path(made, [float("inf")], None, 20, 1e-3)
