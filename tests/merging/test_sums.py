from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel._kernels import exact_sums
from exafel.merging.sums import total
from exafel.parallel.comm import SerialComm

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def summed(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    return total(exact_sums(values, groups, n_groups), SerialComm())


@given(st.lists(FINITE, max_size=60))
def test_a_sum_is_exact_to_the_last_bits(terms: list[float]) -> None:
    values = np.array([terms], dtype=np.float64)
    found = summed(values, np.zeros(len(terms), dtype=np.int64), 1)[0, 0]
    assert found == pytest.approx(math.fsum(terms), rel=4e-16, abs=0)


@given(st.lists(FINITE, min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_the_terms_does_not_matter(terms: list[float], random: object) -> None:
    shuffled = list(terms)
    random.shuffle(shuffled)
    groups = np.zeros(len(terms), dtype=np.int64)
    assert summed(np.array([terms]), groups, 1)[0, 0] == summed(np.array([shuffled]), groups, 1)[0, 0]


def test_parts_add_up_to_the_same_bits_as_the_whole() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=(3, 10_000)) * 10.0 ** rng.integers(-12, 12, 10_000)
    groups = rng.integers(0, 7, 10_000)
    whole = summed(values, groups, 7)
    parts = [exact_sums(np.ascontiguousarray(values[:, i::3]), groups[i::3].copy(), 7) for i in range(3)]
    assert np.array_equal(total(sum(parts), SerialComm()), whole)
    assert whole[1, 2] == pytest.approx(math.fsum(values[1, groups == 2]), rel=4e-16)


def test_cancellation_loses_nothing() -> None:
    values = np.array([[1e200, 1.0, -1e200, 5e-324, -2.0]])
    assert summed(values, np.zeros(5, dtype=np.int64), 1)[0, 0] == -1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        exact_sums(np.array([[1.0, bad]]), np.zeros(2, dtype=np.int64), 1)


@pytest.mark.parametrize("group", [-1, 2])
def test_a_group_out_of_range_is_refused(group: int) -> None:
    with pytest.raises(ValueError, match="range"):
        exact_sums(np.array([[1.0]]), np.array([group]), 2)
