"""Error model mm24 on observations that it describes exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.config.merge_errors import Mm24Config
from exafel.errors import InputError
from exafel.merging.group import Observations, order_words
from exafel.merging.mm24 import _terms, fit_mm24, pair_differences
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.local import run_local

SFAC, A, B, C = 1.5, 0.6, 2.0, 0.1
N_LATTICES = 200
CORRELATIONS = np.random.default_rng(1).uniform(0.1, 0.95, N_LATTICES)


def made(n_unique: int, multiplicity: int, seed: int = 0) -> Observations:
    """Observations whose errors follow the model, with the true intensity for <I>."""
    rng = np.random.default_rng(seed)
    key = np.repeat(2 * np.arange(1, n_unique + 1), multiplicity)
    true = np.repeat(200.0 + 500.0 * rng.exponential(size=n_unique), multiplicity)
    lattice = np.concatenate([np.sort(rng.choice(N_LATTICES, multiplicity, replace=False)) for _ in range(n_unique)])
    variance = rng.uniform(20.0, 60.0, len(key)) ** 2
    sadd_squared = A**2 * np.exp(-B * CORRELATIONS[lattice]) + C**2
    intensity = rng.normal(true, SFAC * np.sqrt(variance + sadd_squared * true**2))
    words = np.array([int(order_words(np.array([k]), int(n), odd=False)[0]) for k, n in zip(key, lattice, strict=True)])
    return Observations(words, intensity, variance)


def fitted(comm: Communicator) -> tuple[float, ...]:
    data = made(300, 12)
    mine = data.take(data.keys // 2 % comm.size == comm.rank)
    model = fit_mm24([pair_differences(mine, CORRELATIONS, 2, 100)], Mm24Config(), constant_sadd=False, comm=comm)
    return (model.sfac, model.a, model.b, model.c, model.target)


def test_the_model_that_made_the_errors_comes_back() -> None:
    data = made(400, 60)  # <I> is the mean of so many that it is nearly the true one
    pairs = [pair_differences(data, CORRELATIONS, 2, 100)]
    model = fit_mm24(pairs, Mm24Config(tuning_param=200.0), constant_sadd=False, comm=SerialComm())
    grid = np.linspace(0.15, 0.9, 10)
    for mean in (300.0, 800.0, 1500.0):
        found = model.variance(np.full(10, 40.0**2), np.full(10, mean), grid)
        true = SFAC**2 * (40.0**2 + (A**2 * np.exp(-B * grid) + C**2) * mean**2)
        np.testing.assert_allclose(found, true, rtol=0.1)


def test_lattices_that_agree_badly_weigh_less_only_where_sadd_may_vary() -> None:
    pairs = [pair_differences(made(400, 12), CORRELATIONS, 2, 100)]
    mean, variance = np.full(2, 800.0), np.full(2, 900.0)
    correlation = np.array([0.2, 0.9])
    varying = fit_mm24(pairs, Mm24Config(), constant_sadd=False, comm=SerialComm())
    bad, good = varying.variance(variance, mean, correlation)
    assert bad > 1.5 * good
    constant = fit_mm24(pairs, Mm24Config(), constant_sadd=True, comm=SerialComm())
    assert (constant.b, constant.c) == (0.0, 0.0)
    assert np.ptp(constant.variance(variance, mean, correlation)) == 0.0


@given(st.lists(st.floats(0.05, 2.0), min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_slopes_are_those_of_differences(values: list[float]) -> None:
    pairs = pair_differences(made(20, 6), CORRELATIONS, 2, 100)
    at = np.array(values)
    terms = _terms(pairs, at, 10.0).sum(axis=1)
    for place in range(4):
        step = np.zeros(4)
        step[place] = 1e-6
        rise = _terms(pairs, at + step, 10.0)[0].sum() - _terms(pairs, at - step, 10.0)[0].sum()
        assert rise / 2e-6 == pytest.approx(terms[1 + place], rel=1e-5, abs=1e-5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 60))
@settings(deadline=None)
def test_pairs_are_of_one_reflection_and_within_their_number(multiplicities: list[int], most: int) -> None:
    words = [
        order_words(np.array([2 * key + 2]), number, odd=False)
        for key, n in enumerate(multiplicities)
        for number in range(n)
    ]
    key = np.repeat(np.arange(len(multiplicities)), multiplicities)
    data = Observations(
        np.concatenate(words), 1000.0 * key + np.random.default_rng(0).random(len(key)), np.ones(len(key))
    )
    pairs = pair_differences(data, np.zeros(30), 2, most)
    assert np.abs(pairs.difference).max(initial=0.0) < 1.0
    for number, n in enumerate(multiplicities):
        there = np.abs(pairs.mean - 1000.0 * number) < 2.0
        count = int(there.sum())
        if n <= 2:
            assert count == 0
            continue
        assert n - 1 <= count <= max(n - 1, min(most, n * (n - 1) // 2))
        assert pairs.weight[there].sum() == pytest.approx(n)


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_fits_the_same(ranks: int) -> None:
    assert run_local(fitted, ranks) == fitted(SerialComm())


def test_too_little_to_fit_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="too few for the error model"):
        fit_mm24(
            [pair_differences(made(2, 3), CORRELATIONS, 2, 100)], Mm24Config(), constant_sadd=True, comm=SerialComm()
        )
    equal = made(20, 5)
    equal = Observations(equal.order, np.full(len(equal), 7.0), equal.variance)
    with pytest.raises(InputError, match="of which 0 differ"):
        fit_mm24([pair_differences(equal, CORRELATIONS, 2, 100)], Mm24Config(), constant_sadd=True, comm=SerialComm())
