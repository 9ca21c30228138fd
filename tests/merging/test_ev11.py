from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.errors import InputError
from exafel.merging.ev11 import Ev11, deviations, fit_ev11, group_means, intensity_bins
from exafel.parallel.comm import SerialComm


def observations(sdfac: float, sdb: float, sdadd: float, *, n: int = 4000, multiplicity: int = 25, seed: int = 1):
    """Observations whose errors the model describes exactly, and the first of each reflection."""
    rng = np.random.default_rng(seed)
    true = np.repeat(rng.exponential(400.0, n), multiplicity)
    variance = rng.uniform(50.0, 4000.0, n * multiplicity)
    sigma = sdfac * np.sqrt(variance + sdb**2 * true + sdadd**2 * true**2)
    return rng.normal(true, sigma), variance, np.arange(0, n * multiplicity, multiplicity)


def fitted(intensity: np.ndarray, variance: np.ndarray, starts: np.ndarray) -> Ev11:
    data = deviations(intensity, variance, starts, 2)
    bins = intensity_bins(data.mean, data.mean.min(), data.mean.max(), 100)
    return fit_ev11(data, bins, 100, SerialComm())


@pytest.mark.parametrize(("sdfac", "sdb", "sdadd"), [(1.0, 0.0, 0.0), (1.4, 0.0, 0.3), (0.8, 2.0, 0.15)])
def test_known_factors_are_found(sdfac: float, sdb: float, sdadd: float) -> None:
    """sdb and sdadd can stand in for each other in part; the errors that they describe together cannot."""
    model = fitted(*observations(sdfac, sdb, sdadd))
    assert model.sdfac == pytest.approx(sdfac, rel=0.05)
    assert model.sdadd == pytest.approx(sdadd, abs=0.04)
    variance, mean = np.array([100.0, 1000.0, 1000.0, 3000.0]), np.array([50.0, 200.0, 900.0, 2000.0])
    true = Ev11(sdfac, sdb, sdadd, 0.0, 0)
    assert model.variance(variance, mean) == pytest.approx(true.variance(variance, mean), rel=0.1)


def test_corrected_errors_have_unit_variance_where_the_raw_ones_do_not() -> None:
    intensity, variance, starts = observations(1.5, 0.5, 0.25)
    model = fitted(intensity, variance, starts)
    data = deviations(intensity, variance, starts, 2)
    assert np.mean(data.squared / data.variance) > 3.0
    assert np.mean(data.squared / model.variance(data.variance, data.mean)) == pytest.approx(1.0, abs=0.03)


def test_deviations_have_the_variance_of_an_observation() -> None:
    """(n-1)/n (I_j - mean of the others)^2 is unbiased for the variance of I_j: sampled for n = 3."""
    rng = np.random.default_rng(2)
    intensity = rng.normal(10.0, 2.0, 300_000)
    data = deviations(intensity, np.ones_like(intensity), np.arange(0, 300_000, 3), 2)
    assert data.squared.mean() == pytest.approx(4.0, rel=0.01)


def test_only_reflections_measured_more_often_take_part() -> None:
    intensity = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    starts = np.array([0, 1, 3])  # one, two and three observations
    data = deviations(intensity, np.ones(6), starts, 2)
    assert data.mean.tolist() == pytest.approx([26 / 3] * 3)
    means, counts = group_means(intensity, starts)
    assert means.tolist() == pytest.approx([1.0, 2.5, 2.5, 26 / 3, 26 / 3, 26 / 3])
    assert counts.tolist() == [1, 2, 2, 3, 3, 3]


def test_a_negative_mean_never_makes_a_variance_negative() -> None:
    model = Ev11(1.0, 5.0, 0.0, 0.0, 100)
    assert model.variance(np.array([10.0, 10.0]), np.array([-100.0, 4.0])).tolist() == pytest.approx([1.0, 110.0])


def test_too_few_observations_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"none"):
        fitted(*observations(1.0, 0.0, 0.1, n=2, multiplicity=4))


def test_observations_without_errors_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match="are equal") as caught:
        fitted(np.full(90, 100.0), np.full(90, 4.0), np.arange(0, 90, 3))
    assert "merge.error.model" in str(caught.value.hint)


@given(st.floats(0.01, 100.0), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_errors_follow_the_unit_of_the_intensities(unit: float, seed: int) -> None:
    """In other units, sdfac and sdadd stay and sdb goes with the root of the unit."""
    intensity, variance, starts = observations(1.3, 1.0, 0.2, n=150, multiplicity=8, seed=seed)
    one = fitted(intensity, variance, starts)
    other = fitted(unit * intensity, unit**2 * variance, starts)
    mean = np.linspace(50.0, 1500.0, 5)
    expected = unit**2 * one.variance(np.full(5, 900.0), mean)
    np.testing.assert_allclose(other.variance(np.full(5, 900.0 * unit**2), unit * mean), expected, rtol=1e-3)
