"""Weights of several orientations an image, and what they make of the sums."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.config.spi import MatchingConfig
from exafel.spi.assigning import soft_width, weights_of_width


def width(weights: np.ndarray) -> np.ndarray:
    """Number of orientations that weights count as: exp of their entropy."""
    terms = np.where(weights > 0, -weights * np.log(np.maximum(weights, 1e-300)), 0)
    return np.asarray(np.exp(terms.sum(axis=1)))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_weights_count_as_many_as_asked_whatever_the_scale_of_the_scores(scale: float) -> None:
    scores = -np.sort(-np.random.default_rng(1).normal(size=(50, 40)), axis=1) * scale - 7000
    for wanted in (2.0, 8.0, 20.0):
        weights = weights_of_width(scores, wanted)
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        np.testing.assert_allclose(width(weights), wanted, rtol=0.1)
        assert (np.diff(weights, axis=1) <= 0).all()


def test_the_best_has_all_the_weight_in_the_end_and_equal_scores_share_it() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [5.0, 5.0, 5.0]])
    np.testing.assert_array_equal(weights_of_width(scores, 1.0), [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(weights_of_width(scores, 2.0)[1], 1 / 3)


def test_widths_fall_by_equal_factors_to_one() -> None:
    options = MatchingConfig(soft=64.0, refine_from=6)
    widths = [soft_width(options, "distance", age) for age in range(8)]
    np.testing.assert_allclose(widths, [64, 32, 16, 8, 4, 2, 1, 1])
    assert soft_width(MatchingConfig(soft=1.0), "distance", 0) == 1.0


def test_with_few_photons_several_orientations_go_on_to_be_merged() -> None:
    options = MatchingConfig(soft=64.0, soft_until=4, refine_from=9)
    np.testing.assert_allclose([soft_width(options, "poisson", age) for age in range(6)], [64, 32, 16, 8, 4, 4])
    assert soft_width(options.model_copy(update={"soft_end": 2.0}), "poisson", 5) == 2.0
