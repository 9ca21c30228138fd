from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from exafel.config.cells import CellsConfig
from exafel.errors import InputError, NothingUsableError
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.parallel.comm import SerialComm
from exafel.parallel.local import run_local
from exafel.steps import cells

HALL = "P 4nw 2abw"


def write_lattices(path: Path, edges: np.ndarray, *, crystals: bool = True) -> None:
    panel = Panel(
        "p", np.array([-10.0, 10.0, -100.0]), np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), (0.1, 0.1), (9, 9)
    )
    detector, beam = Detector((panel,)), Beam(1.3)
    experiments = ExperimentList()
    for number, (a, c) in enumerate(edges):
        crystal = Crystal(orthogonalization((a, a, c, 90, 90, 90)).T, HALL) if crystals else None
        image = ImageRef(path.with_suffix(".h5"), number)
        experiments.append(Experiment(f"{path.stem}-{number}", beam, detector, image, crystal))
    write_expt(path, experiments)


def make_stills(folder: Path, n: int = 60) -> None:
    rng = np.random.default_rng(0)
    edges = np.array([79.1, 38.4]) * (1 + 1e-3 * rng.normal(size=(2 * n, 2)))
    write_lattices(folder / "one_integrated.expt", edges[:n])
    write_lattices(folder / "two_integrated.expt", edges[n:])


def test_writes_clusters_a_table_and_a_manifest(tmp_path: Path) -> None:
    make_stills(tmp_path / "stills")
    request = cells.request(CellsConfig(), [tmp_path / "stills"], tmp_path / "cells")
    summary = cells.run(request, SerialComm())
    assert summary.n_lattices == 120
    assert len(summary.clusters) == 1
    assert summary.clusters[0].median[0] == pytest.approx(79.1, abs=0.03)
    content = json.loads((tmp_path / "cells" / "cells.json").read_text())
    assert np.array(content["clusters"][0]["covariance"]).shape == (6, 6)
    with (tmp_path / "cells" / "cells.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 120
    in_cluster = [float(row["a"]) for row in rows if row["cluster"] == "0"]
    assert len(in_cluster) == summary.n_clustered == content["clusters"][0]["size"]
    assert np.mean(in_cluster) == pytest.approx(content["clusters"][0]["mean"][0], abs=1e-5)
    assert cells.run(request, SerialComm()).up_to_date


def test_ranks_do_not_change_the_result(tmp_path: Path) -> None:
    make_stills(tmp_path / "stills")
    for ranks in (1, 2):
        request = cells.request(CellsConfig(), [tmp_path / "stills"], tmp_path / f"cells{ranks}")
        run_local(cells.run, ranks, request)
    for name in ("cells.json", "cells.csv"):
        assert (tmp_path / "cells1" / name).read_bytes() == (tmp_path / "cells2" / name).read_bytes()


def test_stills_without_lattices_are_nothing_usable(tmp_path: Path) -> None:
    write_lattices(tmp_path / "stills" / "a_integrated.expt", np.array([[79.1, 38.4]]), crystals=False)
    with pytest.raises(NothingUsableError):
        cells.run(cells.request(CellsConfig(), [tmp_path / "stills"], tmp_path / "cells"), SerialComm())


def test_an_empty_folder_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    with pytest.raises(InputError, match="experiments_suffix"):
        cells.run(cells.request(CellsConfig(), [tmp_path / "stills"], tmp_path / "cells"), SerialComm())
