"""The Parsl apps run the same steps: same results as Snakemake's, errors in one line, no trace left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from exafel.io.manifest import read_manifest

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
    config = save(tmp_path, {**tiny, "dataste": "x"})
    done = parsl_sfx.run("--config", config, "--results", tmp_path / "results")
    assert done.returncode == 2
    assert done.stdout == f"exafel: {config}: unknown key 'dataste', did you mean 'dataset'?\n"
    assert not (tmp_path / "results").exists()
