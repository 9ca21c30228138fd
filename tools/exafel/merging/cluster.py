"""Filtering lattices by a cluster of unit cells that the cells step found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import ConfigError, InputError
from exafel.io.files import read_json

_NO_SPREAD = 1e-10  # eigenvalue, relative to the largest, of a direction that symmetry ties
_TIED = 1e-6  # largest relative deviation along such a direction


@dataclass(frozen=True, eq=False)
class CellCluster:
    """Mean and covariance of the cells of a cluster.

    Parameters
    ----------
    mean
        a, b, c (angstrom), alpha, beta, gamma (degrees), shape (6,).
    variances, directions
        Eigenvalues (6,) and eigenvectors (6, 6) of the covariance of the cells divided by the mean.
    """

    mean: FloatArray
    variances: FloatArray
    directions: FloatArray

    @staticmethod
    def of(mean: FloatArray, covariance: FloatArray) -> CellCluster:
        """Make a cluster of its mean (6,) and covariance (6, 6)."""
        variances, directions = np.linalg.eigh(covariance / np.outer(mean, mean))
        return CellCluster(mean, variances, directions)

    def mahalanobis(self, cell: Sequence[float]) -> float:
        """Distance of a cell from the mean in units of the spread; infinite off the directions that have a spread."""
        deviation = (np.asarray(cell) / self.mean - 1.0) @ self.directions
        free = self.variances > _NO_SPREAD * self.variances[-1]
        if np.abs(deviation[~free]).max(initial=0.0) > _TIED:
            return float("inf")
        return float(np.sqrt((deviation[free] ** 2 / self.variances[free]).sum()))


def load_cluster(path: Path, component: int) -> CellCluster:
    """Read one cluster of the ``cells.json`` of a cells step, by number, largest first.

    Raises
    ------
    InputError
        The file cannot be read or is not such a file.
    ConfigError
        There is no cluster of that number.
    """
    content = read_json(path)
    try:
        clusters = [
            (np.array(item["mean"], float), np.array(item["covariance"], float)) for item in content["clusters"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "not a file of unit cell clusters", where=path, hint="give cells.json of a cells step"
        ) from error
    if any(mean.shape != (6,) or covariance.shape != (6, 6) for mean, covariance in clusters):
        raise InputError("clusters need six means and a covariance of six by six", where=path)
    if component >= len(clusters):
        raise ConfigError(f"no cluster number {component}: there are {len(clusters)}", where=path)
    return CellCluster.of(*clusters[component])
