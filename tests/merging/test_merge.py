from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.merging.group import Observations, order_words
from exafel.merging.halves import random_splits
from exafel.merging.merge import add, join, merge


def observations(rows: list[tuple[int, int, float, float]]) -> Observations:
    """Rows of key, lattice, intensity, variance, sorted; odd lattice numbers are in the odd half."""
    key, lattice, intensity, variance = (np.array(column) for column in zip(*sorted(rows), strict=True))
    words = [order_words(key[i : i + 1], int(number), odd=number % 2 == 1) for i, number in enumerate(lattice)]
    return Observations(np.concatenate(words), intensity.astype(float), variance.astype(float))


ROWS = st.lists(
    st.tuples(
        st.sampled_from([2, 4, 5, 8]), st.integers(0, 20), st.floats(-1e4, 1e4), st.floats(1.0, 1e3, exclude_min=True)
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:2],
)


@given(ROWS)
def test_means_and_errors_are_the_inverse_variance_ones(rows: list[tuple[int, int, float, float]]) -> None:
    data = observations(rows)
    merged = merge(data, data.variance)
    for number, key in enumerate(merged.keys.tolist()):
        values = np.array([row[2] for row in rows if row[0] == key])
        weights = np.array([1 / row[3] for row in rows if row[0] == key])
        assert merged.all.n[number] == len(values)
        assert merged.all.mean[number] == pytest.approx(np.average(values, weights=weights), rel=1e-9, abs=1e-9)
        assert merged.all.sigma[number] == pytest.approx(weights.sum() ** -0.5)


@given(ROWS)
def test_halves_add_up_to_the_whole(rows: list[tuple[int, int, float, float]]) -> None:
    data = observations(rows)
    merged = merge(data, data.variance)
    assert np.array_equal(merged.odd.n + merged.even.n, merged.all.n)
    assert merged.odd.weight + merged.even.weight == pytest.approx(merged.all.weight)
    assert merged.odd.weighted + merged.even.weighted == pytest.approx(merged.all.weighted, rel=1e-9, abs=1e-9)


@given(ROWS, st.floats(0.01, 100.0))
def test_scaling_all_observations_scales_the_result(rows: list[tuple[int, int, float, float]], scale: float) -> None:
    data = observations(rows)
    scaled = Observations(data.order, data.intensity * scale, data.variance * scale**2)
    one, other = merge(data, data.variance), merge(scaled, scaled.variance)
    assert other.all.mean == pytest.approx(scale * one.all.mean, rel=1e-9, abs=1e-6)
    assert other.all.sigma == pytest.approx(scale * one.all.sigma, rel=1e-9)
    assert other.i_over_sigma == pytest.approx(one.i_over_sigma, rel=1e-9, abs=1e-9)


def test_reflections_measured_too_seldom_are_dropped_and_half_filled_halves_emptied() -> None:
    data = observations([(2, 0, 10.0, 1.0), (4, 0, 5.0, 1.0), (4, 1, 7.0, 1.0), (4, 3, 9.0, 1.0)])
    merged = merge(data, data.variance).with_at_least(2)
    assert merged.keys.tolist() == [4]
    assert merged.all.mean.tolist() == [7.0]
    assert merged.odd.mean.tolist() == [8.0]
    assert merged.even.n.tolist() == [0]
    assert np.isnan(merged.even.mean).all()
    assert np.isnan(merged.even.sigma).all()


def test_parts_of_ranks_are_joined_in_the_order_of_keys() -> None:
    first = observations([(4, 0, 5.0, 1.0), (8, 1, 7.0, 1.0)])
    second = observations([(2, 0, 1.0, 1.0), (6, 1, 3.0, 1.0)])
    joined = join([merge(first, first.variance), merge(second, second.variance)])
    assert joined.keys.tolist() == [2, 4, 6, 8]
    assert joined.all.mean.tolist() == [1.0, 5.0, 3.0, 7.0]
    assert joined.odd.n.tolist() == [0, 0, 1, 1]


@given(ROWS)
def test_sums_of_two_merges_add_up_to_those_of_one(rows: list[tuple[int, int, float, float]]) -> None:
    data = observations(rows)
    splits = random_splits(np.random.default_rng(0).integers(0, 2**63, (21, 2), dtype=np.uint64), 3)
    first = data.take(np.flatnonzero(data.lattices <= 10))
    second = data.take(np.flatnonzero(data.lattices > 10))
    added = add(merge(first, first.variance, splits), merge(second, second.variance, splits))
    whole = merge(data, data.variance, splits)
    assert added.keys.tolist() == whole.keys.tolist()
    found = (added.all, added.odd, added.even, *added.splits)
    expected = (whole.all, whole.odd, whole.even, *whole.splits)
    for one, other in zip(found, expected, strict=True):
        assert one.n.tolist() == other.n.tolist()
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-12)
        np.testing.assert_allclose(one.weighted, other.weighted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(added.i_over_sigma, whole.i_over_sigma, rtol=1e-9, atol=1e-9)
    assert [half.n.sum() for half in whole.splits] == [int(split[data.lattices].sum()) for split in splits]
