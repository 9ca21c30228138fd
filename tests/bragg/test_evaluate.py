"""Agreement of merged intensities with the truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from exafel.bragg.evaluate import correlation, intensity_agreement
from exafel.bragg.structure_factors import structure_factor_table
from exafel.io.crystal import space_group


def test_correlation_is_numpys_and_undefined_where_it_must_be() -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 50))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan(correlation(x[:2], y[:2]))
    assert np.isnan(correlation(x, np.ones(50)))


def test_shells_partition_the_common_reflections() -> None:
    rng = np.random.default_rng(2)
    hkl = np.array([(h, k, m) for h in range(1, 9) for k in range(h + 1) for m in range(1, 9)])
    F = rng.uniform(10, 100, len(hkl))
    truth = structure_factor_table(hkl[:-20], F[:-20], space_group("P43212"))
    d = 100 / np.linalg.norm(hkl, axis=1)
    intensity = 7.0 * F**2
    intensity[3] = np.nan
    # Another choice of asymmetric unit: a symmetry operation of the group and Friedel's law.
    moved = -hkl[:, [1, 0, 2]] * [1, 1, -1]
    everything, *shells = intensity_agreement(moved, intensity, d, truth, 6)
    assert everything.n == len(hkl) - 21
    assert everything.cc == pytest.approx(1)
    assert sum(shell.n for shell in shells) == everything.n
    assert [shell.d_max >= shell.d_min for shell in shells] == [True] * 6
    assert all(one.d_min >= other.d_max for one, other in pairwise(shells))
    noisy = intensity + rng.normal(0, np.nanstd(intensity), len(hkl))
    assert intensity_agreement(moved, noisy, d, truth, 6)[0].cc == pytest.approx(np.sqrt(0.5), abs=0.12)


def test_bijvoet_mates_are_averaged() -> None:
    hkl = np.array([[1, 2, 3], [2, 3, 4], [3, 4, 5], [1, 4, 6]])
    both = np.concatenate([hkl, -hkl])
    plus, minus = np.array([3.0, 5.0, 7.0, 4.0]), np.array([4.0, 4.0, 8.0, 6.0])
    truth = structure_factor_table(both, np.concatenate([plus, minus]), space_group("P1"), anomalous=True)
    rows = intensity_agreement(hkl, (plus**2 + minus**2) / 2, np.arange(4.0) + 1, truth, 1)
    assert rows[0].cc == pytest.approx(1, abs=1e-12)


def test_nothing_in_common_gives_nothing() -> None:
    truth = structure_factor_table(np.array([[1, 1, 1]]), np.ones(1), space_group("P1"))
    assert intensity_agreement(np.array([[5, 5, 5]]), np.ones(1), np.ones(1), truth, 3) == []
