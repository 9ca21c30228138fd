from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.merge import Merged, Sums
from exafel.merging.scaling import Reference
from exafel.merging.statistics import correlation, possible_reflections, r_int, r_split, shell_statistics

CELL = gemmi.UnitCell(40.0, 50.0, 60.0, 90.0, 90.0, 90.0)
GROUP = gemmi.SpaceGroup("P 21 21 21")


def half(n: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> Sums:
    weight = np.where(n > 0, sigma**-2.0, 0.0)
    return Sums(n, weight, mean * weight)


def made(asu: AsymmetricUnit, d_min: float, noise: float = 30.0) -> tuple[Merged, np.ndarray]:
    """Every third possible reflection, with halves of two observations each and known noise."""
    hkl = gemmi.make_miller_array(CELL, GROUP, d_min)[::3]
    keys = np.sort(asu.keys(hkl))
    rng = np.random.default_rng(9)
    true = rng.exponential(100.0, len(keys))
    two, sigma = np.full(len(keys), 2), np.full(len(keys), noise)
    odd, even = (half(two, true + rng.normal(0, noise, len(keys)), sigma) for _ in range(2))
    whole = Sums(odd.n + even.n, odd.weight + even.weight, odd.weighted + even.weighted)
    return Merged(keys, whole, odd, even, np.full(len(keys), 8.0)), true


def test_closed_forms_of_the_figures_of_merit() -> None:
    odd, even = np.array([10.0, 20.0, 30.0]), np.array([12.0, 16.0, 30.0])
    assert r_split(odd, even) == pytest.approx(2**-0.5 * 6.0 / (0.5 * 118.0))
    assert r_int(odd, even, 0.5) == pytest.approx((4.0 + 12.0 + 15.0) / 60.0)
    assert correlation(odd, even) == pytest.approx(np.corrcoef(odd, even)[0, 1])
    assert r_split(odd, odd) == 0.0
    assert correlation(odd, 3.0 * odd + 1.0) == pytest.approx(1.0)


def test_what_cannot_be_computed_is_none() -> None:
    assert correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert correlation(np.ones(5), np.arange(5.0)) is None
    assert r_split(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("merge_anomalous", [True, False])
def test_possible_reflections_are_those_gemmi_counts(merge_anomalous: bool) -> None:
    asu = AsymmetricUnit(GROUP, merge_anomalous=merge_anomalous)
    possible = possible_reflections(asu, CELL, 3.0, None, 8)
    hkl = gemmi.make_miller_array(CELL, GROUP, 3.0)
    centric = sum(GROUP.operations().is_reflection_centric(index) for index in hkl.tolist())
    mates = 0 if merge_anomalous else len(hkl) - centric
    assert possible.counts.sum() == len(hkl) + mates
    assert possible.limits[-1] == pytest.approx(1 / 9.0)


def test_a_low_resolution_limit_cuts() -> None:
    asu = AsymmetricUnit(GROUP, merge_anomalous=True)
    possible = possible_reflections(asu, CELL, 3.0, 10.0, 4)
    hkl = gemmi.make_miller_array(CELL, GROUP, 3.0)
    d = resolution(hkl, CELL) ** -0.5
    assert possible.counts.sum() == (d <= 10.0).sum()
    assert (possible.shell(hkl[d > 10.0]) == -1).all()


def test_shells_add_up_to_all_and_say_what_was_made() -> None:
    asu = AsymmetricUnit(GROUP, merge_anomalous=True)
    merged, true = made(asu, 3.0)
    possible = possible_reflections(asu, CELL, 3.0, None, 5)
    shells, total = shell_statistics(merged, asu, possible, Reference.of(merged.keys, true))
    for name in ("n_possible", "n_unique", "n_obs", "n_half", "n_iso"):
        assert sum(getattr(shell, name) for shell in shells) == getattr(total, name)
    assert total.completeness == pytest.approx(1 / 3, abs=0.01)
    assert total.multiplicity == 4.0
    assert total.unmerged_i_over_sigma == 2.0
    assert total.mean_i == pytest.approx(np.average(merged.all.mean))
    signal = 100.0**2 / (100.0**2 + 30.0**2)  # variance of an exponential, and of it with the noise of a half
    assert total.cc_half == pytest.approx(signal, abs=0.03)
    assert total.cc_iso == pytest.approx((100.0**2 / (100.0**2 + 30.0**2 / 2)) ** 0.5, abs=0.02)
    assert total.half_scale == pytest.approx(1.0, abs=0.1)
    assert [shell.d_min for shell in shells] == sorted((shell.d_min for shell in shells), reverse=True)
    assert shells[0].d_max is None


def test_an_empty_shell_is_reported_as_empty() -> None:
    asu = AsymmetricUnit(GROUP, merge_anomalous=True)
    merged, _ = made(asu, 6.0)
    possible = possible_reflections(asu, CELL, 2.0, None, 4)
    shells, _ = shell_statistics(merged, asu, possible, None)
    assert (shells[-1].n_unique, shells[-1].completeness) == (0, 0.0)
    assert (shells[-1].multiplicity, shells[-1].cc_half, shells[-1].r_int) == (None, None, None)
