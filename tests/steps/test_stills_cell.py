"""Two passes: cells found shot by shot, their consensus, and the shots again with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exafel.config.base import validate
from exafel.config.cells import CellsConfig
from exafel.config.stills import StillsConfig
from exafel.errors import ConfigError, InputError
from exafel.parallel.comm import SerialComm
from exafel.steps import cells, stills
from exafel.steps.stills_cell import with_consensus_cell


def config(**indexing: object) -> StillsConfig:
    return validate(StillsConfig, {"indexing": indexing, "integration": {"d_min": 1.9}})


def test_the_consensus_of_a_first_pass_indexes_the_second(still_images: Path, tmp_path: Path) -> None:
    first = stills.run(stills.request(config(), [still_images], tmp_path / "first"), SerialComm())
    assert first.outcomes == {"integrated": 5, "no_hit": 1}
    found = cells.run(cells.request(CellsConfig(), [tmp_path / "first"], tmp_path / "cells"), SerialComm())
    assert found.clusters[0].space_group == "P 2 2 2"
    assert found.clusters[0].median == pytest.approx((40, 50, 60, 90, 90, 90), rel=2e-3)
    request = stills.request(config(cells=str(tmp_path / "cells")), [still_images], tmp_path / "second")
    assert isinstance(request.config, StillsConfig)
    assert request.config.indexing.unit_cell == found.clusters[0].median
    assert request.config.indexing.space_group == "P 2 2 2"
    second = stills.run(request, SerialComm())
    assert second.n_integrated == 5
    assert second.cell_median == pytest.approx((40, 50, 60, 90, 90, 90), rel=2e-3)
    recorded = json.loads((tmp_path / "second" / "manifest.json").read_text())
    assert str(tmp_path / "cells" / "cells.json") in [item["path"] for item in recorded["inputs"]]


def write(path: Path, *clusters: dict[str, object]) -> str:
    path.write_text(json.dumps({"clusters": list(clusters)}))
    return str(path)


def test_the_largest_cluster_counts_and_a_better_known_space_group_stays(tmp_path: Path) -> None:
    small = {"space_group": "P 6 2 2", "size": 3, "median": [93, 93, 130, 90, 90, 120], "mean": []}
    large = {"space_group": "P 4 2 2", "size": 9, "median": [79, 79, 38, 90, 90, 90], "mean": []}
    path = write(tmp_path / "cells.json", small, large)
    assert with_consensus_cell(config(cells=path)).indexing.unit_cell == (79, 79, 38, 90, 90, 90)
    assert with_consensus_cell(config(cells=path, space_group="P43212")).indexing.space_group == "P43212"
    with pytest.raises(ConfigError, match="lattice tP"):
        with_consensus_cell(config(cells=path, space_group="P6122"))


def test_what_holds_no_consensus_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no cluster"):
        with_consensus_cell(config(cells=write(tmp_path / "cells.json")))
    with pytest.raises(InputError, match="not a file of the cells step"):
        with_consensus_cell(config(cells=write(tmp_path / "cells.json", {"size": 3})))
    with pytest.raises(InputError, match="no results"):
        with_consensus_cell(config(cells=str(tmp_path / "none")))
