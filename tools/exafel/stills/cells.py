"""Clusters of unit cells: density-based, with mean and covariance, for filters and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from exafel.arrays import FloatArray, IntArray
from exafel.config.cells import CellsConfig

_DENSITY_FACTOR = 3.0  # linking distance over the median distance to the neighbour that makes a core


@dataclass(frozen=True, eq=False)
class CellCluster:
    """Statistics of the cells of one cluster; a, b, c in angstrom, alpha, beta, gamma in degrees.

    Parameters
    ----------
    size
        Number of lattices.
    mean, median, robust_sigma
        Of each cell parameter, shape (6,); the robust standard deviation is 1.4826 times the median deviation.
    covariance
        Of the six parameters, shape (6, 6); singular where symmetry ties parameters.
    """

    size: int
    mean: FloatArray
    median: FloatArray
    robust_sigma: FloatArray
    covariance: FloatArray

    def mahalanobis(self, cells: FloatArray) -> FloatArray:
        """Distance of cells (n, 6) from the mean in units of the spread, over the free parameters, shape (n,).

        A cell that differs along a direction in which the cluster has no spread at all (a parameter tied by
        symmetry) is infinitely far.
        """
        scale = np.maximum(np.abs(self.mean), 1e-12)
        values, vectors = np.linalg.eigh(self.covariance / np.outer(scale, scale))
        free = values > 1e-10 * max(float(values.max()), 1e-12)
        projected = ((cells - self.mean) / scale) @ vectors
        distance = np.sqrt((projected[:, free] ** 2 / values[free]).sum(axis=1))
        off = np.abs(projected[:, ~free]).max(axis=1, initial=0.0) > 1e-6
        return np.asarray(np.where(off, np.inf, distance))


@dataclass(frozen=True, eq=False)
class CellClusters:
    """Clusters, largest first, and the number of each cell's cluster (-1: none), shape (n,)."""

    clusters: tuple[CellCluster, ...]
    labels: IntArray
    linking_distance: float


def cluster_cells(cells: FloatArray, config: CellsConfig) -> CellClusters:
    """Cluster unit cells of one space group by density.

    DBSCAN (Ester et al. 1996, KDD-96, 226) on (ln a, ln b, ln c, alpha, beta, gamma in rad), in which a distance is a
    relative difference. Of many cells an evenly spaced part is clustered and every other cell joins the cluster of the
    nearest core cell within the linking distance, so the cost grows as n log n.

    Parameters
    ----------
    cells
        a, b, c (angstrom), alpha, beta, gamma (deg), shape (n, 6).
    config
        Linking distance, density and limits.
    """
    n = len(cells)
    if n == 0:
        return CellClusters((), np.empty(0, dtype=np.int64), 0.0)
    points = np.column_stack([np.log(cells[:, :3]), np.radians(cells[:, 3:])])
    chosen = np.unique(np.linspace(0, n - 1, min(n, config.max_clustered)).round().astype(np.int64))
    tree = cKDTree(points[chosen])
    neighbours = min(config.min_neighbours, len(chosen) - 1)
    linking = config.linking_distance or _linking_distance(tree, neighbours)
    core, label = _dbscan(tree, linking, neighbours)
    labels = np.full(n, -1, dtype=np.int64)
    if core.any():
        distance, nearest = cKDTree(points[chosen][core]).query(points)
        near = distance <= linking
        labels[near] = label[core][nearest[near]]
    labels = _by_size(labels, max(config.min_cluster_fraction * n, 1.0))
    clusters = tuple(_describe(cells[labels == number]) for number in range(labels.max(initial=-1) + 1))
    return CellClusters(clusters, labels, float(linking))


def _linking_distance(tree: cKDTree, neighbours: int) -> float:
    distance, _ = tree.query(tree.data, k=neighbours + 1)
    typical = float(np.median(np.atleast_2d(distance.T)[-1]))
    return max(_DENSITY_FACTOR * typical, 1e-5)


def _dbscan(tree: cKDTree, linking: float, neighbours: int) -> tuple[np.ndarray, IntArray]:
    """Core points, and the connected component of each among the core points."""
    pairs = tree.query_pairs(linking, output_type="ndarray")
    n = len(tree.data)
    core = np.bincount(pairs.ravel(), minlength=n) >= neighbours
    linked = pairs[core[pairs].all(axis=1)]
    graph = coo_matrix((np.ones(len(linked), dtype=np.int8), (linked[:, 0], linked[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return core, component.astype(np.int64)


def _by_size(labels: IntArray, smallest: float) -> IntArray:
    """Number clusters from the largest on, the small ones left out."""
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    order = [int(i) for i in np.lexsort((names, -counts)) if counts[i] >= smallest]
    result = np.full(len(labels), -1, dtype=np.int64)
    for number, i in enumerate(order):
        result[labels == names[i]] = number
    return result


def _describe(cells: FloatArray) -> CellCluster:
    median = np.median(cells, axis=0)
    covariance = np.atleast_2d(np.cov(cells, rowvar=False)) if len(cells) > 1 else np.zeros((6, 6))
    return CellCluster(
        size=len(cells),
        mean=np.asarray(cells.mean(axis=0)),
        median=np.asarray(median),
        robust_sigma=np.asarray(1.4826 * np.median(np.abs(cells - median), axis=0)),
        covariance=np.asarray(covariance),
    )


def cell_row(values: Sequence[float] | FloatArray, digits: int) -> tuple[float, ...]:
    """Round cell parameters for files and tables."""
    return tuple(round(float(value), digits) for value in values)
