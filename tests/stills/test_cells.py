from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.config.cells import CellsConfig
from exafel.stills.cells import cluster_cells

LYSOZYME = np.array([79.1, 79.1, 38.4, 90.0, 90.0, 90.0])
ORTHORHOMBIC = np.array([60.0, 90.0, 120.0, 90.0, 90.0, 90.0])


def tetragonal(n: int, spread: float, rng: np.random.Generator, cell: np.ndarray = LYSOZYME) -> np.ndarray:
    a = cell[0] * (1 + spread * rng.normal(size=n))
    c = cell[2] * (1 + spread * rng.normal(size=n))
    return np.column_stack([a, a, c, *np.full((3, n), 90.0)])


def test_two_isoforms_and_strays_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    first, second = tetragonal(300, 1e-3, rng), tetragonal(100, 1e-3, rng, LYSOZYME * [1.02, 1.02, 0.97, 1, 1, 1])
    strays = LYSOZYME * (1 + 0.2 * rng.random((20, 6)) * [1, 1, 1, 0, 0, 0])
    cells = np.concatenate([first, second, strays])
    order = rng.permutation(len(cells))
    found = cluster_cells(cells[order], CellsConfig())
    truth = np.repeat([0, 1, -1], [300, 100, 20])[order]
    assert len(found.clusters) == 2
    assert np.count_nonzero(found.labels != truth) <= 0.05 * len(cells)
    assert not np.any((truth >= 0) & (found.labels >= 0) & (truth != found.labels))
    np.testing.assert_allclose(found.clusters[0].mean[:3], LYSOZYME[:3], rtol=3e-4)


def test_covariance_and_robust_sigma_are_those_of_the_cells() -> None:
    rng = np.random.default_rng(2)
    mixing = np.array([[0.10, 0.04, 0.02], [0.04, 0.12, 0.0], [0.02, 0.0, 0.2]])
    cells = np.tile(ORTHORHOMBIC, (3000, 1))
    cells[:, :3] += rng.normal(size=(3000, 3)) @ mixing
    cluster = cluster_cells(cells, CellsConfig(linking_distance=0.01)).clusters[0]
    assert cluster.size == 3000
    np.testing.assert_allclose(cluster.covariance[:3, :3], mixing.T @ mixing, atol=2e-3)
    np.testing.assert_allclose(cluster.covariance, np.cov(cells, rowvar=False), atol=1e-12)
    np.testing.assert_allclose(cluster.robust_sigma[:3], np.sqrt(np.diag(mixing.T @ mixing)), rtol=0.06)


def test_mahalanobis_counts_free_parameters_only() -> None:
    rng = np.random.default_rng(3)
    cells = tetragonal(2000, 1e-3, rng)
    cluster = cluster_cells(cells, CellsConfig(linking_distance=0.01)).clusters[0]
    squared = cluster.mahalanobis(cells) ** 2
    assert squared.mean() == pytest.approx(2.0 * (1 - 1 / 2000), rel=1e-6)  # two free parameters
    off = LYSOZYME.copy()
    off[0] += 0.1
    assert np.isinf(cluster.mahalanobis(off[None])[0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(30, 300))
def test_order_of_the_cells_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.concatenate([tetragonal(n, 1e-3, rng), tetragonal(n // 2, 1e-3, rng, 1.05 * LYSOZYME)])
    order = rng.permutation(len(cells))
    straight, shuffled = cluster_cells(cells, CellsConfig()), cluster_cells(cells[order], CellsConfig())
    assert [c.size for c in straight.clusters] == [c.size for c in shuffled.clusters]
    np.testing.assert_array_equal(np.sort(straight.labels), np.sort(shuffled.labels))


def test_many_cells_cost_little_and_follow_the_part_that_is_clustered() -> None:
    rng = np.random.default_rng(4)
    cells = np.concatenate([tetragonal(40_000, 1e-3, rng), tetragonal(20_000, 1e-3, rng, 1.05 * LYSOZYME)])
    config = CellsConfig(linking_distance=0.002)
    start = time.process_time()
    found = cluster_cells(cells, config)
    assert time.process_time() - start < 5.0
    assert len(found.clusters) == 2
    assert found.clusters[0].size + found.clusters[1].size > 0.98 * len(cells)
    assert np.unique(found.labels[:40_000]).tolist() in ([0], [-1, 0])


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_cells_are_no_error(n: int) -> None:
    cells = np.tile(LYSOZYME, (n, 1))
    found = cluster_cells(cells, CellsConfig())
    assert len(found.labels) == n
    assert sum(cluster.size for cluster in found.clusters) == np.count_nonzero(found.labels >= 0)
    if n == 5:
        assert found.clusters[0].size == 5
