"""Wilson plot and twinning on intensities of random structures whose twin fraction and B factor are known."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.merging.anomalous import anomalous_statistics
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.checks import TWINNED, UNTWINNED, Checks, check_intensities, twin_fraction
from exafel.merging.merge import Merged, Sums

CELL = gemmi.UnitCell(60, 60, 90, 90, 90, 120)
GROUP = gemmi.SpaceGroup("P 63")
ASU = AsymmetricUnit(GROUP, merge_anomalous=True)
B_FACTOR = 25.0


def sums(intensity: np.ndarray, sigma: np.ndarray, n: int = 4) -> Sums:
    weight = sigma**-2.0
    return Sums(np.full(len(intensity), n), weight, weight * intensity)


def wilson(rng: np.random.Generator, centric: np.ndarray) -> np.ndarray:
    return np.where(centric, rng.normal(size=len(centric)) ** 2, rng.exponential(size=len(centric)))


def checked(twin: float, relative_error: float = 0.0, seed: int = 0) -> Checks:
    rng = np.random.default_rng(seed)
    hkl = gemmi.make_miller_array(CELL, GROUP, 2.0)
    operations = GROUP.operations()
    centric = np.asarray(operations.centric_flag_array(hkl)).astype(bool)
    one, other = (wilson(rng, centric) for _ in range(2))  # a reflection and its twin mate have nothing in common
    normalized = (1 - twin) * one + twin * other
    squared = resolution(hkl, CELL)
    power = np.array([5 * gemmi.Element("C").it92.calculate_sf(value / 4) ** 2 for value in squared])
    epsilon = np.asarray(operations.epsilon_factor_without_centering_array(hkl))
    intensity = normalized * epsilon * power * np.exp(-B_FACTOR * squared / 2)
    keys = ASU.keys(hkl)
    order = np.argsort(keys)
    sigma = np.maximum(relative_error * power * np.exp(-B_FACTOR * squared / 2), 1e-6)
    measured = sums((intensity + rng.normal(size=len(hkl)) * sigma)[order], sigma[order])
    return check_intensities(Merged(keys[order], measured, measured, measured, measured.mean), ASU, CELL)


def test_untwinned_intensities_have_the_moments_of_wilson() -> None:
    found = checked(0.0)
    assert found.mean_l == pytest.approx(UNTWINNED["mean_l"], abs=0.01)
    assert found.mean_l_squared == pytest.approx(UNTWINNED["mean_l_squared"], abs=0.01)
    assert found.acentric_moment == pytest.approx(UNTWINNED["acentric"], abs=0.08)
    assert found.centric_moment == pytest.approx(UNTWINNED["centric"], abs=0.5)
    assert found.twin_fraction < 0.03
    assert found.n_l > 5000


def test_a_perfect_twin_is_seen() -> None:
    found = checked(0.5)
    assert found.mean_l == pytest.approx(TWINNED["mean_l"], abs=0.01)
    assert found.mean_l_squared == pytest.approx(TWINNED["mean_l_squared"], abs=0.01)
    assert found.acentric_moment == pytest.approx(TWINNED["acentric"], abs=0.05)
    assert found.twin_fraction > 0.4


def test_the_twin_fraction_is_found() -> None:
    assert checked(0.2).twin_fraction == pytest.approx(0.2, abs=0.03)
    assert twin_fraction(0.5) == pytest.approx(0.0, abs=0.005)
    assert twin_fraction(0.375) == pytest.approx(0.5)
    one, other = np.random.default_rng(5).exponential(size=(2, 2, 400_000))
    for fraction in (0.05, 0.3, 0.45):
        first, second = ((1 - fraction) * item[0] + fraction * item[1] for item in (one, other))
        mean_l = float(np.mean(np.abs(first - second) / (first + second)))
        assert twin_fraction(mean_l) == pytest.approx(fraction, abs=0.02)
    assert twin_fraction(0.6) == 0.0


def test_errors_do_not_widen_the_second_moment() -> None:
    assert checked(0.0, relative_error=0.5).acentric_moment == pytest.approx(2.0, abs=0.12)


def test_the_wilson_plot_gives_the_b_factor() -> None:
    """Made with carbon alone, plotted against a protein's atoms."""
    found = checked(0.0)
    assert found.wilson_b == pytest.approx(B_FACTOR, abs=2.0)
    assert [point.d_min for point in found.wilson] == sorted((p.d_min for p in found.wilson), reverse=True)


def test_too_few_reflections_say_nothing() -> None:
    few = sums(np.array([1.0, 2.0, 3.0]), np.ones(3))
    keys = np.sort(ASU.keys(np.array([[1, 2, 3], [2, 3, 4], [3, 1, 5]])))
    found = check_intensities(Merged(keys, few, few, few, few.mean), ASU, CELL)
    assert (found.wilson, found.wilson_b, found.mean_l, found.twin_fraction) == ((), None, None, None)
    assert (found.acentric_moment, found.centric_moment) == (None, None)


def anomalous(signal: float, noise: float) -> Merged:
    rng = np.random.default_rng(2)
    keys = np.arange(2000, 6000)
    half_difference = np.repeat(rng.normal(0, signal / 2, 2000), 2) * np.tile([1.0, -1.0], 2000)
    base = np.repeat(100 + 100 * rng.exponential(size=2000), 2) + half_difference
    odd, even = (base + rng.normal(0, noise * np.sqrt(2), 4000) for _ in range(2))
    whole = sums((odd + even) / 2, np.full(4000, noise))
    half = np.full(4000, noise * np.sqrt(2))
    return Merged(keys, whole, sums(odd, half), sums(even, half), whole.mean)


def test_anomalous_differences_correlate_as_their_signal_says() -> None:
    found = anomalous_statistics(anomalous(signal=8.0, noise=4.0))
    error = 2 * 4.0**2 * 2  # of the difference of one half
    assert (found.n, found.n_half) == (2000, 2000)
    assert found.cc_anom == pytest.approx(64.0 / (64.0 + error), abs=0.05)
    without = anomalous_statistics(anomalous(signal=0.0, noise=4.0))
    assert without.cc_anom == pytest.approx(0.0, abs=0.06)
    assert without.signal == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)
    assert found.signal > 1.3 * without.signal


def test_reflections_without_a_mate_do_not_count() -> None:
    whole = anomalous(8.0, 4.0)
    plus_only = whole.take(whole.keys % 2 == 0)
    assert anomalous_statistics(plus_only).n == 0
    assert anomalous_statistics(plus_only).cc_anom is None
    assert anomalous_statistics(whole.take(slice(0, 3))).n == 1
