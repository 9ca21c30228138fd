from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exafel.errors import ConfigError, InputError
from exafel.merging.cluster import CellCluster, load_cluster


def tetragonal(n: int) -> np.ndarray:
    """Cells with correlated a = b and c."""
    rng = np.random.default_rng(3)
    a, c = rng.multivariate_normal([58.0, 150.0], [[0.04, 0.02], [0.02, 0.25]], n).T
    return np.column_stack([a, a, c, np.full((n, 3), 90.0)])


def cluster(cells: np.ndarray) -> CellCluster:
    return CellCluster.of(cells.mean(axis=0), np.cov(cells.T))


def test_distances_are_those_over_the_free_parameters() -> None:
    cells = tetragonal(500)
    free = cells[:, [0, 2]]
    deviation = free - free.mean(axis=0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", deviation, np.linalg.inv(np.cov(free.T)), deviation))
    found = [cluster(cells).mahalanobis(cell) for cell in cells]
    assert found == pytest.approx(expected.tolist(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("cell", [(58.0, 58.3, 150.0, 90, 90, 90), (58.0, 58.0, 150.0, 90, 91, 90)])
def test_a_cell_that_breaks_the_symmetry_is_infinitely_far(cell: tuple[float, ...]) -> None:
    assert cluster(tetragonal(100)).mahalanobis(cell) == np.inf


def test_clusters_are_read_by_number(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"
    cells = tetragonal(50)
    items = [{"mean": (cells.mean(axis=0) * s).tolist(), "covariance": np.cov(cells.T).tolist()} for s in (1.0, 1.1)]
    path.write_text(json.dumps({"clusters": items}))
    assert load_cluster(path, 1).mean == pytest.approx(1.1 * load_cluster(path, 0).mean)
    with pytest.raises(ConfigError, match="there are 2"):
        load_cluster(path, 2)


@pytest.mark.parametrize(
    "content", [{}, [1], {"clusters": [{"mean": [1.0]}]}, {"clusters": [{"mean": [1], "covariance": [[1]]}]}]
)
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="cluster"):
        load_cluster(path, 0)
