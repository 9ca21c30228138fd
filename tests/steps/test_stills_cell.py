"""Two passes: cells found shot by shot, their consensus, and the shots again with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exafel.cli.main import run as run_cli
from exafel.config.base import validate
from exafel.config.cells import CellsConfig
from exafel.config.stills import StillsConfig
from exafel.config.workflow import WorkflowConfig, load_workflow_config
from exafel.errors import ConfigError, InputError
from exafel.io.crystal import space_group_of_hall
from exafel.io.expt import read_expt
from exafel.parallel.comm import SerialComm
from exafel.steps import cells, stills
from exafel.steps.cells import CellsSummary
from exafel.steps.chain import chain_of, run_link, trial_folder, write_config
from exafel.steps.stills_cell import with_consensus_cell
from exafel.steps.stills_tally import StillsSummary


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


def test_a_chain_of_two_passes_finds_the_cell_and_indexes_with_it(still_images: Path, tmp_path: Path) -> None:
    shots = {"indexing": {"two_passes": True, "first_pass_shots": 4}, "integration": {"d_min": 1.9}}
    cells = {"min_neighbours": 2}
    data = {"results": str(tmp_path), "images": str(still_images), "stills": shots, "cells": cells}
    workflow = validate(WorkflowConfig, data)
    links = [link.step for link in chain_of(workflow)]
    assert links == ["stills_first", "cells_first", "stills", "cells", "merge", "report"]
    first, found, second = (run_link(workflow, name) for name in links[:3])
    assert isinstance(first, StillsSummary)
    assert isinstance(found, CellsSummary)
    assert isinstance(second, StillsSummary)
    assert first.n_shots == 4  # shots 0, 1, 3 and 4, which is blank
    assert second.n_shots == 6
    assert second.indexed_of_hits >= first.indexed_of_hits > 0.7
    consensus = found.clusters[0]
    assert consensus.space_group == "P 2 2 2"
    root = trial_folder(workflow)
    assert lattices(root / "stills") == [consensus.space_group] * 5
    assert second.cell_median == pytest.approx((40, 50, 60, 90, 90, 90), rel=2e-3)
    assert run_link(workflow, "stills").up_to_date
    more = load_workflow_config(write_config(workflow), {"stills.indexing.first_pass_shots": 5})
    assert run_link(more, "stills").up_to_date, "how many shots found the same cells is nothing to the second pass"


@pytest.mark.data
@pytest.mark.slow
def test_a_shot_that_alone_shows_too_low_a_symmetry_gets_that_of_the_others(shared_data: Path, tmp_path: Path) -> None:
    """Of four shots of hexagonal thermolysin one is indexed as orthorhombic by itself."""
    example = Path(__file__).resolve().parents[2] / "workflows" / "config" / "examples" / "cspad_thermolysin.yaml"
    unknown = {"unit_cell": None, "space_group": None, "two_passes": True}
    changes = {"results": str(tmp_path), "images": str(shared_data / "cspad_thermolysin"), "cells.min_neighbours": 2}
    changes |= {f"stills.indexing.{name}": value for name, value in unknown.items()}
    workflow = load_workflow_config(example, changes)
    for name in ("stills_first", "cells_first", "stills"):
        run_link(workflow, name)
    groups = {name: lattices(trial_folder(workflow) / name) for name in ("stills_first", "stills")}
    assert sorted(groups["stills_first"]) == ["C 2 2 2", "P 6 2 2", "P 6 2 2", "P 6 2 2"]
    assert groups["stills"] == ["P 6 2 2"] * 4


def lattices(folder: Path) -> list[str]:
    """Space groups of the integrated lattices."""
    crystals = [item.crystal for path in folder.glob("*.expt") for item in read_expt(path)]
    return [str(space_group_of_hall(crystal.space_group_hall).hm) for crystal in crystals if crystal is not None]


def test_the_command_runs_either_pass(still_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text("stills: {indexing: {two_passes: true}, max_shots: 3}")
    cells_json = write(
        tmp_path / "cells.json", {"space_group": "P 2 2 2", "size": 3, "median": [40, 50, 60, 90, 90, 90]}
    )
    command = ["stills", "-i", str(still_images), "-c", str(settings), "-o", str(tmp_path / "out"), "--dry-run"]
    assert run_cli(command) == 2
    assert "two_passes asks for two runs of the step" in capsys.readouterr().err
    assert run_cli([*command, "--first-pass"]) == 0
    planned = json.loads(capsys.readouterr().out)["config"]
    assert (planned["max_shots"], planned["indexing"]["unit_cell"]) == (3, None)
    assert run_cli([*command, "--cells", cells_json]) == 0
    planned = json.loads(capsys.readouterr().out)["config"]
    assert planned["indexing"]["unit_cell"] == [40, 50, 60, 90, 90, 90]
    assert run_cli([*command, "--cells", cells_json, "--first-pass"]) == 2
    assert run_cli([*command[:3], "-o", str(tmp_path / "out"), "--first-pass"]) == 2
    assert "set stills.indexing.two_passes" in capsys.readouterr().err


@pytest.mark.parametrize("other", [{"unit_cell": [40, 50, 60, 90, 90, 90]}, {"cells": "cells"}])
def test_two_passes_are_of_an_unknown_cell(other: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give one of unit_cell, cells and two_passes"):
        config(two_passes=True, **other)


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
