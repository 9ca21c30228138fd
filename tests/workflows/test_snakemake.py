"""Snakemake drives the steps: dry run, lint, results, report, changes, misspelt keys, resume after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from exafel.io.crystal import space_group_of_hall
from exafel.io.events import Stage, read_events
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest, verify_containers

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("simulate", "stills", "cells", "merge", "report")
REFINED = ("stage1", "predict", "stage2")
RANKS = 2

Save = Callable[[Path, Mapping[str, Any]], Path]


def planned(output: str) -> set[str]:
    """Rules that a dry run would run, out of its table of jobs."""
    return set(re.findall(r"^([a-z0-9]+) +1$", output, flags=re.MULTILINE)) - {"all", "total"}


def test_a_dry_run_from_the_root_plans_the_demo(snakemake: Any, tmp_path: Path) -> None:
    done = snakemake.run("--configfile", "workflows/config/demo.yaml", "--dry-run", "--config", f"results={tmp_path}")
    assert done.returncode == 0, done.stdout
    assert planned(done.stdout) == {*STEPS, *REFINED, "evaluate"}
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"


def test_without_a_profile_the_snakefile_is_enough(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", "workflows/Snakefile", "-n", "--config", f"results={tmp_path}"]
    done = subprocess.run(
        [*command, f"images={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert planned(done.stderr + done.stdout) == set(STEPS) - {"simulate"}


@pytest.mark.parametrize("example", sorted((ROOT / "workflows/config/examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_examples_take_image_folders_on_the_command_line(snakemake: Any, tmp_path: Path, example: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"] if "cspad" in example.name else [tmp_path / "one"]
    for folder in folders:
        folder.mkdir()
    given = f"images=[{', '.join(map(str, folders))}]" if len(folders) > 1 else f"images={folders[0]}"
    done = snakemake.run("--dry-run", "--directory", tmp_path, "--configfile", example, "--config", given)
    assert done.returncode == 0, done.stdout
    assert planned(done.stdout) == set(STEPS) - {"simulate"}
    assert "exafel stills " + "".join(f"--images {path} " for path in folders) in done.stdout


@pytest.mark.slow
def test_an_unknown_cell_is_found_by_a_first_pass(
    snakemake: Any, finished: Any, tiny: Mapping[str, Any], save: Save, tmp_path: Path
) -> None:
    """Without the cell, each rule of the two passes runs its command, and all lattices get the consensus lattice."""
    shots = {"indexing": {"two_passes": True, "first_pass_shots": 8}, "chunk_size": 1}
    images = str(finished.trial / "simulate")
    data = {**tiny, "simulate": None, "images": images, "stills": shots, "cells": {"min_neighbours": 2}}
    options = ("--directory", tmp_path, "--configfile", save(tmp_path, data), "--until", "stills")
    done = snakemake.run(*options)
    assert done.returncode == 0, done.stdout
    trial = tmp_path / "results" / "tiny" / "000"
    first, second = (read_manifest(trial / name).summary for name in ("stills_first", "stills"))
    (consensus, *_) = read_manifest(trial / "cells_first").summary["clusters"]
    assert (first["n_shots"], second["n_shots"]) == (8, 16)
    assert second["indexed_of_hits"] >= first["indexed_of_hits"]
    crystals = [item.crystal for path in (trial / "stills").glob("*.expt") for item in read_expt(path)]
    assert {space_group_of_hall(crystal.space_group_hall).hm for crystal in crystals} == {consensus["space_group"]}
    assert consensus["space_group"] == "P 4 2 2", "the highest symmetry of the lattice of P43212"
    assert second["cell_median"] == pytest.approx([41.98, 41.98, 88.92, 90, 90, 90], rel=2e-3)
    assert planned(snakemake.run(*options, "--dry-run").stdout) == set()


@pytest.mark.parametrize(
    "options",
    [
        ("--configfile", "workflows/config/demo.yaml"),
        ("--config", "images=workflows"),
        ("--config", "images=workflows", "stills={indexing: {two_passes: true}}"),
    ],
    ids=["demo", "images", "two passes"],
)
def test_lint_has_nothing_to_say(snakemake: Any, options: tuple[str, ...]) -> None:
    done = snakemake.run("--lint", *options)
    assert done.returncode == 0, done.stdout
    assert "your workflow is in a good condition" in done.stdout


def test_the_rules_are_formatted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", "workflows"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"simulate": {"n_shts": 3}}, "config.yaml: unknown key 'simulate.n_shts', did you mean 'n_shots'?"),
        ({"images": "absent"}, "absent: no such image"),
    ],
    ids=["a misspelt key", "images that are not there"],
)
def test_a_wrong_configuration_is_one_line(
    snakemake: Any, tiny: Mapping[str, Any], save: Save, tmp_path: Path, change: dict[str, Any], line: str
) -> None:
    config = save(tmp_path, {**tiny, **change})
    done = snakemake.run("--directory", tmp_path, "--configfile", config)
    assert done.returncode != 0
    assert line in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_chain_runs_to_its_report(finished: Any) -> None:
    for step in STEPS:
        manifest = read_manifest(finished.trial / step)
        assert manifest.step == step
        verify_containers(finished.trial / step, manifest)
        assert (finished.trial / "logs" / f"{step}.log").is_file()
        assert (finished.trial / "benchmarks" / f"{step}.tsv").read_text().startswith("s\th:m:s\t")
    stills = read_manifest(finished.trial / "stills").summary
    assert stills["n_shots"] == 16
    assert stills["n_integrated"] >= 12
    page = (finished.trial / "report" / "report.html").read_text()
    assert "the integrated shot with the median number of spots. Circles:" in " ".join(page.split())
    assert "cannot be drawn" not in page


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(snakemake: Any, finished: Any) -> None:
    done = snakemake.run(*finished.options)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


@pytest.mark.slow
def test_a_changed_parameter_plans_only_what_depends_on_it(snakemake: Any, finished: Any) -> None:
    done = snakemake.run(*finished.options, "--dry-run", "--config", "merge={minimum_multiplicity: 2}")
    assert planned(done.stdout) == {"merge", "report"}
    done = snakemake.run(*finished.options, "--dry-run", "--config", "report={histogram_bins: 7}")
    assert planned(done.stdout) == {"report"}


@pytest.mark.slow
def test_a_step_that_is_asked_without_need_says_so_and_keeps_its_results(snakemake: Any, finished: Any) -> None:
    manifest = finished.trial / "stills" / "manifest.json"
    before = manifest.read_text()
    done = snakemake.run(*finished.options, "--forcerun", "stills", "--until", "stills")
    assert done.returncode == 0, done.stdout
    assert "up to date, nothing to do" in (finished.trial / "logs" / "stills.log").read_text()
    assert manifest.read_text() == before


@pytest.mark.slow
def test_snakemakes_own_report_embeds_ours(snakemake: Any, finished: Any, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    done = snakemake.run(*finished.options, "--report", page)
    assert done.returncode == 0, done.stdout
    size = (finished.trial / "report" / "report.html").stat().st_size
    assert page.stat().st_size > size
    text = page.read_text()
    assert "Serial crystallography" in text
    assert "report.html" in text


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_finished_shots_and_sees_new_images(
    snakemake: Any, finished: Any, tiny: Mapping[str, Any], save: Save, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):  # the same shots eight times over: long enough to be killed in the middle
        for file in (finished.trial / "simulate").glob("rank-*.h5"):
            os.link(file, images / f"run{number}-{file.name}")
    config = save(tmp_path, {**tiny, "simulate": None, "images": str(images)})
    options = ("--directory", tmp_path, "--configfile", config, "--cores", RANKS, "--until", "stills")
    trial = tmp_path / "results" / "tiny" / "000"

    kill_during(snakemake.words(*options), lambda: len(ended(trial)) >= 10)
    before = ended(trial)
    assert 10 <= len(before) < 128, "killed in the middle"
    assert not (trial / "stills" / "manifest.json").exists()

    done = snakemake.run(*options)
    assert done.returncode == 0, done.stdout
    assert read_manifest(trial / "stills").summary["n_shots"] == 128
    assert set(ended(trial)) == set(range(128))
    twice = {shot for shot, count in Counter(started(trial)).items() if count > 1}
    assert len(twice) <= 2 * RANKS, "only what was in hand when the kill came, and not yet on disk, is done again"
    assert len(set(before) - twice) >= len(before) - RANKS

    assert planned(snakemake.run(*options, "--dry-run").stdout) == set()
    os.link(next(images.iterdir()), images / "one-more.h5")
    assert planned(snakemake.run(*options, "--dry-run").stdout) == {"stills"}


def kill_during(command: list[str], condition: Callable[[], bool]) -> None:
    """Start a command and kill it and all its children, without a chance to tidy up, once the condition holds."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def started(trial: Path) -> list[int]:
    return [shot for stage, shot in events(trial) if stage == Stage.START]


def ended(trial: Path) -> list[int]:
    return [shot for stage, shot in events(trial) if stage in (Stage.DONE, Stage.FAIL)]


def events(trial: Path) -> list[tuple[int, int]]:
    records = [read_events(path) for path in (trial / "stills" / "events").glob("*.events")]
    return [(int(stage), int(shot)) for table in records for stage, shot in table[["stage", "shot"]].tolist()]


def test_a_failing_step_shows_its_one_line(snakemake: Any, tmp_path: Path, save: Save, tiny: Mapping[str, Any]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "shot.cbf").write_bytes(b"###CBF: VERSION 1.5\nnot an image")
    config = save(tmp_path, {**tiny, "images": str(folder)})
    done = snakemake.run("--directory", tmp_path, "--configfile", config)
    assert done.returncode == 1
    assert re.search(r"^exafel: .*none of 1 shots was integrated: 1 read_failed", done.stdout, flags=re.MULTILINE)
    assert "Traceback" not in done.stdout


@pytest.mark.slow
@pytest.mark.data
def test_real_images_by_the_example(snakemake: Any, shared_data: Path, tmp_path: Path) -> None:
    config = ROOT / "workflows/config/examples/cspad_thermolysin.yaml"
    images = shared_data / "cspad_thermolysin"
    done = snakemake.run("--directory", tmp_path, "--configfile", config, "--config", f"images={images}")
    assert done.returncode == 0, done.stdout
    trial = tmp_path / "results" / "cspad_thermolysin" / "000"
    summary = read_manifest(trial / "stills").summary
    assert summary["n_integrated"] == 4
    assert summary["cell_median"][:3] == pytest.approx([93.4, 93.4, 131.1], abs=0.6)
    numbers = json.loads((trial / "report" / "report.json").read_text())
    assert numbers
