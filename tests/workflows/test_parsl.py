"""The Parsl apps run the same steps: same results as Snakemake's, errors in one line, no trace left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exafel.io.manifest import read_manifest
from exafel.io.mrc import read_mrc

ROOT = Path(__file__).resolve().parents[2]
STRUCTURE = ROOT / "workflows" / "config" / "demo" / "1a8o.pdb"

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_the_results_are_those_of_snakemake(parsl_sfx: Any, finished: Any, tmp_path: Path) -> None:
    done = parsl_sfx.run(
        "--config", finished.config, "--results", tmp_path, "--ranks", "2", "--json", stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr
    summaries = json.loads(done.stdout)
    assert list(summaries) == ["simulate", "stills", "cells", "merge", "report"]
    trial = tmp_path / "tiny" / "000"
    assert summaries["merge"] == read_manifest(trial / "merge").summary
    assert summaries["merge"] == read_manifest(finished.trial / "merge").summary
    assert summaries["stills"]["outcomes"] == read_manifest(finished.trial / "stills").summary["outcomes"]
    assert (trial / "logs" / "parsl").is_dir(), "Parsl's own files lie beside the results"


def test_what_snakemake_has_finished_is_up_to_date(parsl_sfx: Any, finished: Any) -> None:
    done = parsl_sfx.run("--config", finished.config, "--ranks", "1", "--json", stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    assert all(summary["up_to_date"] for summary in json.loads(done.stdout).values())


def test_the_error_of_a_step_is_one_line_and_its_exit_code(
    parsl_sfx: Any, tiny: Mapping[str, Any], save: Callable[[Path, Mapping[str, Any]], Path], tmp_path: Path
) -> None:
    config = save(tmp_path, {**tiny, "simulate": {**tiny["simulate"], "n_shots": 3, "no_hit_fraction": 1.0}})
    done = parsl_sfx.run("--config", config, "--results", tmp_path / "results", "--ranks", "1")
    assert done.returncode == 3, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "simulate: done"
    assert lines[1].startswith("exafel: ")
    assert len(lines) == 2


def test_a_wrong_configuration_starts_nothing(
    parsl_sfx: Any, tiny: Mapping[str, Any], save: Callable[[Path, Mapping[str, Any]], Path], tmp_path: Path
) -> None:
    for change, line in (
        ({"dataste": "x"}, "config.yaml: unknown key 'dataste', did you mean 'dataset'?\n"),
        ({"simulate": None}, "exafel: images: there are no images (name image folders, or give a simulate section)\n"),
    ):
        done = parsl_sfx.run("--config", save(tmp_path, {**tiny, **change}), "--results", tmp_path / "results")
        assert done.returncode == 2
        assert done.stdout.startswith("exafel: ")
        assert done.stdout.endswith(line)
        assert done.stdout.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_generations_as_tasks_give_the_map_of_ranks(tmp_path: Path) -> None:
    pytest.importorskip("parsl")
    simulation = {"structures": [str(STRUCTURE)], "n_shots": 80, "detector": {"size_px": 20}}
    reconstruction = {
        "diameter_angstrom": 44.0,
        "d_min_angstrom": 12.0,
        "halves": False,
        "block_images": 20,
        "max_generations": 2,
        "marching": {"d_start_angstrom": 12.0, "starts": 1},
        "matching": {"references": 200, "soft": 5.0},
        "phasing": {"iterations": 20, "starts": 2},
    }
    config = tmp_path / "config.yaml"
    pulse = {"focus_radius_um": 0.01}
    config.write_text(json.dumps({"simulate_spi": {**simulation, "pulse": pulse}, "spi_reconstruct": reconstruction}))
    exafel = [sys.executable, "-c", "from exafel.cli.main import main; main()"]
    common = ["--config", str(config), "--images", str(tmp_path / "shots"), "--out"]
    for command in (
        [*exafel, "simulate", "spi", "--config", str(config), "--out", str(tmp_path / "shots")],
        [*exafel, "spi", "reconstruct", *common, str(tmp_path / "ranks")],
        [sys.executable, "workflows/parsl/spi.py", *common, str(tmp_path / "tasks"), "--workers", "2"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
    expected, found = (read_mrc(tmp_path / name / "class0_density.mrc")[0] for name in ("ranks", "tasks"))
    np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "ranks" / "images.csv").read_text() == (tmp_path / "tasks" / "images.csv").read_text()
