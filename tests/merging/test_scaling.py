from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.merging.scaling import Reference, scale_to_reference


@given(st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_the_scale_of_scaled_intensities_is_found(scale: float, seed: int) -> None:
    reference = np.random.default_rng(seed).exponential(100.0, 50)
    found = scale_to_reference(reference / scale, reference)
    assert found.scale == pytest.approx(scale)
    assert found.correlation == pytest.approx(1.0)
    assert found.n == 50


def test_the_scale_is_the_least_squares_slope_and_the_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(4)
    reference = rng.exponential(100.0, 80)
    observed = 0.2 * reference + rng.normal(0, 10.0, 80)
    found = scale_to_reference(observed, reference)
    assert found.scale == pytest.approx(np.linalg.lstsq(observed[:, None], reference, rcond=None)[0][0])
    assert found.correlation == pytest.approx(np.corrcoef(observed, reference)[0, 1])


@pytest.mark.parametrize("observed", [[], [1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
def test_what_cannot_be_correlated_has_correlation_zero(observed: list[float]) -> None:
    values = np.array(observed)
    assert scale_to_reference(values, values + 1.0).correlation == 0.0


def test_a_reference_is_looked_up_by_key() -> None:
    reference = Reference.of(np.array([7, 3, 3, 9]), np.array([70.0, 30.0, 31.0, 90.0]))
    found = reference.look_up(np.array([9, 4, 3, 100]))
    assert found[[0, 2]].tolist() == [90.0, 30.0]
    assert np.isnan(found[[1, 3]]).all()
    assert np.isnan(Reference.of(np.zeros(0, dtype=int), np.zeros(0)).look_up(np.array([1]))).all()
