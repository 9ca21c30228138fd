"""The stills step: outcomes, containers, resume, ranks, damage, and the real example data."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from exafel.cli.main import run as run_cli
from exafel.config.base import validate
from exafel.config.stills import StillsConfig
from exafel.config.workflow import load_workflow_config
from exafel.errors import ConfigError, InputError, NothingUsableError
from exafel.io.events import Stage, read_events
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest, verify_containers
from exafel.io.refl import read_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.parallel.comm import SerialComm
from exafel.parallel.launch import launch
from exafel.parallel.spool import ChunkSpool
from exafel.steps import stills, stills_files

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "config" / "examples"
CELL = (40.0, 50.0, 60.0, 90.0, 90.0, 90.0)


def config(**changes: object) -> StillsConfig:
    data: dict[str, object] = {"indexing": {"unit_cell": CELL, "space_group": "P222"}, "integration": {"d_min": 1.9}}
    return validate(StillsConfig, data | changes)


def integrated(folder: Path) -> dict[str, ReflectionTable]:
    """Integrated reflections of a finished step by experiment identifier, from all ranks."""
    manifest = read_manifest(folder)
    tables = {}
    for expt, refl in zip(manifest.files(folder, "expt"), manifest.files(folder, "refl"), strict=True):
        table = read_refl(refl)
        for number, experiment in enumerate(read_expt(expt)):
            assert table.identifiers[number] == experiment.identifier
            tables[experiment.identifier] = table.select(table["id"] == number)
    return tables


def assert_same(first: dict[str, ReflectionTable], second: dict[str, ReflectionTable]) -> None:
    assert first.keys() == second.keys()
    for identifier, table in first.items():
        for name in ("miller_index", "xyzcal.px", "intensity.sum.value", "intensity.sum.variance", "flags"):
            np.testing.assert_array_equal(table[name], second[identifier][name])


@pytest.fixture(scope="module")
def finished(still_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, stills.StillsSummary]:
    out = tmp_path_factory.mktemp("finished") / "stills"
    return out, stills.run(stills.request(config(), [still_images], out), SerialComm())


def test_summary_and_outcomes(finished: tuple[Path, stills.StillsSummary]) -> None:
    _, summary = finished
    assert summary.n_shots == 6
    assert summary.outcomes == {"integrated": 5, "no_hit": 1}
    assert summary.n_hits == summary.n_indexed == summary.n_integrated == summary.n_lattices == 5
    assert summary.reasons == {"no_hit: fewer than 16 spots": 1}
    np.testing.assert_allclose(summary.cell_median, CELL, rtol=2e-3)
    assert summary.rmsd_px_median is not None
    assert summary.rmsd_px_median < 1
    assert set(summary.cpu_s_per_phase) == {"read", "spotfind", "index", "integrate"}
    line = stills.batch_line(summary)
    assert "hits 83.3%" in line
    assert "100.0% of hits" in line


def test_containers_hold_what_the_table_says(finished: tuple[Path, stills.StillsSummary]) -> None:
    out, summary = finished
    manifest = read_manifest(out)
    verify_containers(out, manifest)
    rows = [json.loads(line) for path in manifest.files(out, "shots") for line in path.read_text().splitlines()]
    assert [row["shot"] for row in rows] == list(range(6))
    assert [row["outcome"] for row in rows] == ["integrated"] * 4 + ["no_hit", "integrated"]
    tables = integrated(out)
    assert [lattice["identifier"] for row in rows for lattice in row["lattices"]] == list(tables)
    assert sum(len(table) for table in tables.values()) == summary.n_reflections
    for lattice in (lattice for row in rows for lattice in row["lattices"]):
        assert len(tables[lattice["identifier"]]) == lattice["n_integrated"]
    for table in tables.values():
        assert table.has_flag(Flag.INTEGRATED_SUM).all()
        assert table["d"].min() >= 1.9
    (indexed,) = (read_refl(path) for path in manifest.files(out, "indexed"))
    assert indexed.identifiers == dict(enumerate(tables))
    assert np.bincount(indexed["id"]).tolist() == [item["n_indexed"] for row in rows for item in row["lattices"]]
    (strong,) = (read_refl(path) for path in manifest.files(out, "strong"))
    assert len(strong) == sum(row["n_spots"] for row in rows)
    events = np.concatenate([read_events(path) for path in sorted((out / "events").iterdir())])
    assert np.count_nonzero(events["stage"] == Stage.DONE) == 5
    assert events["reason"][events["stage"] == Stage.FAIL].tolist() == [b"no_hit"]


def test_strong_spots_of_the_first_shots_alone_are_kept(still_images: Path, tmp_path: Path) -> None:
    settings = config(keep_spots_of=2)
    stills.run(stills.request(settings, [still_images], tmp_path), SerialComm())
    manifest = read_manifest(tmp_path)
    (strong,) = (read_refl(path) for path in manifest.files(tmp_path, "strong"))
    rows = [json.loads(line) for line in manifest.files(tmp_path, "shots")[0].read_text().splitlines()]
    assert list(strong.identifiers.values()) == [row["lattices"][0]["identifier"] for row in rows[:2]]
    assert np.bincount(strong["id"]).tolist() == [row["n_spots"] for row in rows[:2]]
    assert rows[5]["n_spots"] > 16


def test_many_reflections_go_to_several_containers(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills_files, "REFLECTIONS_PER_CONTAINER", finished[1].n_reflections // 3)
    summary = stills.run(stills.request(config(), [still_images], tmp_path), SerialComm())
    assert summary.n_reflections == finished[1].n_reflections
    parts = [path.name for path in read_manifest(tmp_path).files(tmp_path, "refl")]
    assert set(parts) > {"rank-00000.refl", "rank-00000-001.refl"}
    assert_same(integrated(finished[0]), integrated(tmp_path))


def test_a_second_run_does_nothing(finished: tuple[Path, stills.StillsSummary], still_images: Path) -> None:
    out, summary = finished
    before = (out / "manifest.json").stat().st_mtime_ns
    again = stills.run(stills.request(config(), [still_images], out), SerialComm())
    assert again.up_to_date
    assert again.n_reflections == summary.n_reflections
    assert (out / "manifest.json").stat().st_mtime_ns == before


def test_ranks_share_the_shots_and_change_nothing(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    summary = launch(stills.run, stills.request(config(chunk_size=1), [still_images], out), ranks=2)
    assert summary.outcomes == finished[1].outcomes
    assert summary.cell_median == finished[1].cell_median
    assert_same(integrated(finished[0]), integrated(out))
    assert len(read_manifest(out).files(out, "shots")) == 2


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_where_it_was(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    request = stills.request(config(chunk_size=1), [still_images], out)
    process, seen = stills.process_shot, []

    def die_at_three(reader: object, number: int, *rest: object) -> object:
        seen.append(number)
        if number == 3 and seen.count(3) == 1:
            raise KilledError
        return process(reader, number, *rest)

    monkeypatch.setattr(stills, "process_shot", die_at_three)
    with pytest.raises(KilledError):
        stills.run(request, SerialComm())
    assert not (out / "manifest.json").exists()
    summary = stills.run(request, SerialComm())
    assert seen == [0, 1, 2, 3, 3, 4, 5]
    assert summary.outcomes == finished[1].outcomes
    assert_same(integrated(finished[0]), integrated(out))


def test_fewer_ranks_take_over_what_more_ranks_left(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fewer"
    request = stills.request(config(), [still_images], out)
    with stills.StepRun(request, SerialComm()) as step:
        reader = stills.ShotReader(stills.open_frames([still_images]), config().geometry)
        done = [stills.process_shot(reader, number, config()) for number in (1, 2)]
        for rank, result in zip((1, 7), done, strict=True):
            with ChunkSpool(step.work / f"rank-{rank:05d}.spool") as spool:
                spool.append(pickle.dumps([result]))
    summary = stills.run(request, SerialComm())
    assert summary.n_shots == 6
    assert_same(integrated(finished[0]), integrated(out))


def test_some_of_the_shots_are_evenly_spaced_and_come_out_as_with_all(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "some"
    launch(stills.run, stills.request(config(max_shots=3), [still_images], out), ranks=2)
    rows = [json.loads(line) for path in out.glob("*_shots.jsonl") for line in path.read_text().splitlines()]
    assert sorted(row["shot"] for row in rows) == [0, 2, 4]
    every, some = integrated(finished[0]), integrated(out)
    assert len(some) == 2, "shot 4 is blank"
    assert_same({name: every[name] for name in some}, some)


def test_a_damaged_frame_loses_only_that_shot(
    finished: tuple[Path, stills.StillsSummary], still_images: Path, tmp_path: Path
) -> None:
    images = tmp_path.joinpath(*still_images.parts[-3:])  # a tree that is copied keeps its identifiers
    images.parent.mkdir(parents=True)
    shutil.copy(still_images, images)
    with h5py.File(images, "r+") as file:
        data = file["/entry/data/data"]
        data.id.write_direct_chunk((2, 0, 0), b"this is no packed frame")
    summary = stills.run(stills.request(config(), [images], tmp_path / "out"), SerialComm())
    assert summary.outcomes == {"integrated": 4, "no_hit": 1, "read_failed": 1}
    good, left = integrated(finished[0]), integrated(tmp_path / "out")
    assert left.keys() < good.keys()
    assert_same({name: good[name] for name in left}, left)


def test_nothing_usable_has_exit_code_3_and_a_table(
    still_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text("stills: {indexing: {unit_cell: [31, 37, 43, 80, 85, 75], min_indexed_fraction: 0.9}}\n")
    arguments = ["stills", "--images", str(still_images), "--config", str(settings), "--out", str(tmp_path / "out")]
    assert run_cli(arguments) == 3
    said = capsys.readouterr().err
    assert "none of 6 shots was integrated" in said
    assert "5 not_indexed" in said
    assert "1 no_hit" in said
    assert "Traceback" not in said


def test_a_run_without_results_leaves_no_tables_to_the_next(still_images: Path, tmp_path: Path) -> None:
    request = stills.request(config(spotfinding={"min_spots": 10_000}), [still_images], tmp_path / "out")
    for ranks in (2, 1):
        with pytest.raises(NothingUsableError, match="none of 6 shots"):
            launch(stills.run, request, ranks=ranks)
    tables = sorted(request.out.glob("rank-*_shots.jsonl"))
    assert [path.name for path in tables] == ["rank-00000_shots.jsonl"]
    assert len(tables[0].read_text().splitlines()) == 6


def test_json_summary_of_the_command(
    still_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: tuple[Path, stills.StillsSummary]
) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text("stills: {indexing: {unit_cell: [40, 50, 60, 90, 90, 90], space_group: P222}}\n")
    arguments = ["stills", "-i", str(still_images), "-c", str(settings), "-o", str(tmp_path / "out"), "--json"]
    assert run_cli([*arguments, "--set", "stills.integration.d_min=1.9"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["n_reflections"] == finished[1].n_reflections
    assert "6 shots: hits 83.3%" in printed.err


def test_requests_that_cannot_work(still_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no results of the cells step"):
        stills.request(config(indexing={"cells": str(tmp_path)}), [still_images], tmp_path)
    with pytest.raises(ConfigError, match="P999"):
        stills.request(config(indexing={"unit_cell": CELL, "space_group": "P999"}), [still_images], tmp_path)
    with pytest.raises(InputError):
        stills.request(config(), [tmp_path / "missing.h5"], tmp_path)
    with pytest.raises(InputError):
        stills.request(config(geometry={"mask": str(tmp_path / "none.npy")}), [still_images], tmp_path)
    assert run_cli(["stills", "--out", str(tmp_path / "out")]) == 2
    assert "no images" in capsys.readouterr().err
    assert run_cli(["stills", "-i", str(still_images), "--set", "stills.spotfinding.gian=2"]) == 2
    assert "gain" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(InputError, match="no images"):
        stills.run(stills.request(config(), [folder], tmp_path / "out"), SerialComm())


def test_a_mask_of_the_wrong_shape_is_the_reason_of_every_shot(still_images: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.npy"
    np.save(mask, np.ones((10, 10), dtype=bool))
    request = stills.request(config(geometry={"mask": str(mask)}), [still_images], tmp_path / "out")
    with pytest.raises(NothingUsableError, match=r"6 read_failed: .*mask"):
        stills.run(request, SerialComm())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "n_integrated", "cell", "tolerance"),
    [
        ("cspad_thermolysin", "cspad_thermolysin", 4, (93.4, 93.4, 131.1), 0.15),
        ("thaumatin_pilatus", "thaumatin_grid", 10, (58.45, 58.45, 152.3), 0.1),
        ("lysozyme_stills", "lysozyme_stills", 48, (79.1, 79.1, 38.4), 0.03),
    ],
)
def test_example_data(
    shared_data: Path,
    tmp_path: Path,
    name: str,
    images: str,
    n_integrated: int,
    cell: tuple[float, ...],
    tolerance: float,
) -> None:
    settings = load_workflow_config(EXAMPLES / f"{name}.yaml").stills
    summary = stills.run(stills.request(settings, [shared_data / images], tmp_path), SerialComm())
    assert summary.n_integrated == n_integrated
    assert summary.n_shots - summary.n_hits == (2 if images == "thaumatin_grid" else 0)
    np.testing.assert_allclose(summary.cell_median[:3], cell, atol=tolerance)
