"""Orientations found and refined, against those that the images were made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exafel.spi import rotations
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Scorer, match
from exafel.spi.particles import Particle
from exafel.spi.phasing import autocorrelation
from exafel.spi.refinement import refine
from exafel.spi.slicing import slices, slices_with_gradient

CUBE = Cube.for_particle(50.0, 10.0)


@pytest.fixture(scope="module")
def model(particle: Particle, backend: Backend) -> np.ndarray:
    density = particle.density(CUBE.m, CUBE.voxel_angstrom).astype(np.float32)
    return autocorrelation(density, CUBE, backend)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    line = np.linspace(-0.09, 0.09, 25)
    x, y = (a.ravel() for a in np.meshgrid(line, line))
    z = -1.35 * (x * x + y * y)
    keep = x * x + y * y + z * z < 0.1**2
    return Pixels(np.stack([x, y, z])[:, keep], np.flatnonzero(keep))


def scorer(score: str, model: np.ndarray, pixels: Pixels, backend: Backend) -> Scorer:
    q = rotations.random_quaternions(50, np.random.default_rng(0))
    ring = np.full(len(pixels), slices([model], q, CUBE, pixels, backend)[0].mean(), dtype=np.float32)
    return Scorer(score, (pixels.length * 10).astype(np.float32), ring, backend)  # type: ignore[arg-type] # pytest's parameters are plain str


def images(score: str, model: np.ndarray, q: np.ndarray, pixels: Pixels, backend: Backend) -> np.ndarray:
    views = np.maximum(slices([model], q, CUBE, pixels, backend)[0], 0)
    if score == "distance":
        return views * np.linspace(0.5, 2.0, len(q), dtype=np.float32)[:, None]
    rng = np.random.default_rng(1)
    return rng.poisson(views * (1500 / views.sum(axis=1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize(("score", "limit"), [("distance", 0.1), ("poisson", 4.0)])
def test_the_right_reference_and_model_win_and_refinement_goes_on(
    score: str, limit: float, model: np.ndarray, pixels: Pixels, backend: Backend
) -> None:
    rng = np.random.default_rng(2)
    true = rotations.random_quaternions(30, rng)
    made = scorer(score, model, pixels, backend)
    d = images(score, model, true, pixels, backend)
    near = rotations.multiply(true, rotations.from_vectors(rng.normal(scale=np.radians(3), size=(30, 3))))
    references = np.concatenate([rotations.random_quaternions(300, rng), near])
    other = model[::-1].copy()
    found = match([made.images(d)], [[other, model]], references, CUBE, pixels, made, keep=2)[0]
    best = references[found.reference[:, 0]]
    assert np.median(rotations.angle_deg(best, true)) < 8
    assert (found.model[:, 0] == 1).mean() > 0.9
    assert (np.diff(found.score, axis=1) <= 0).all()
    q, value = refine(d, model, near, CUBE, pixels, made, 6)
    assert np.median(rotations.angle_deg(q, true)) < limit
    start = made.pairs(d, slices([model], near, CUBE, pixels, backend)[0])
    assert (value >= start - 1e-3 * np.abs(start)).all()


def test_images_end_on_their_own_and_those_that_are_right_cost_one_step(
    model: np.ndarray, pixels: Pixels, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    true = rotations.random_quaternions(20, rng)
    made = scorer("distance", model, pixels, backend)
    d = images("distance", model, true, pixels, backend)
    turns = rng.normal(scale=np.radians(2), size=(20, 3))
    turns[::2] *= 0.01
    near = rotations.multiply(true, rotations.from_vectors(turns))
    looked: list[int] = []

    def counted(model: np.ndarray, q: np.ndarray, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        looked.append(len(q))
        return slices_with_gradient(model, q, *rest)

    monkeypatch.setattr("exafel.spi.refinement.slices_with_gradient", counted)
    q, score = refine(d, model, near, CUBE, pixels, made, 6)
    assert rotations.angle_deg(q, true).max() < 0.1
    assert looked[0] == 20
    assert looked[1] == 10
    alone = [refine(d[i : i + 1], model, near[i : i + 1], CUBE, pixels, made, 6) for i in range(20)]
    assert rotations.angle_deg(q, np.concatenate([item[0] for item in alone])).max() < 0.01
    np.testing.assert_allclose(score, np.concatenate([item[1] for item in alone]), atol=1e-4)


def test_scores_do_not_depend_on_the_scale_of_an_image(model: np.ndarray, pixels: Pixels, backend: Backend) -> None:
    made = scorer("distance", model, pixels, backend)
    q = rotations.random_quaternions(4, np.random.default_rng(3))
    d = images("distance", model, q, pixels, backend)
    views = slices([model], q, CUBE, pixels, backend)[0]
    np.testing.assert_allclose(made.pairs(d, views), 1.0, atol=1e-3)
    np.testing.assert_allclose(made.pairs(7 * d, views), made.pairs(d, views), rtol=1e-5)


def test_the_likelihood_is_that_of_the_counts(model: np.ndarray, pixels: Pixels, backend: Backend) -> None:
    made = scorer("poisson", model, pixels, backend)
    q = rotations.random_quaternions(2, np.random.default_rng(4))
    d = images("poisson", model, q, pixels, backend)
    views = np.maximum(slices([model], q, CUBE, pixels, backend)[0], 0.02 * made.ring)
    share = views.astype(np.float64) / views.sum(axis=1, keepdims=True)
    expected = (d * np.log(share)).sum(axis=1)
    np.testing.assert_allclose(made.pairs(d, views), expected, rtol=1e-3)
