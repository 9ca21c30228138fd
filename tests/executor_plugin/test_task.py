"""A command in a worker: exit codes, output, measure, time limit."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("parsl")

from snakemake_executor_plugin_parsl.task import run_command


def run(tmp_path: Path, script: str, limit_s: float | None = None) -> tuple[int, str]:
    output = tmp_path / "logs" / "output"
    outcome = run_command(["bash", "-c", script], str(tmp_path), {"WORD": "there"}, str(output), limit_s)
    return outcome.returncode, output.read_text()


def test_exit_code_and_output_come_back(tmp_path: Path) -> None:
    assert run(tmp_path, "echo $WORD; pwd >&2; exit 3") == (3, f"there\n{tmp_path}\n")
    assert run(tmp_path, "kill -9 $$") == (-9, "")


def test_memory_and_time_are_those_of_the_command_alone(tmp_path: Path) -> None:
    big = "python3 -c 'x = bytearray(400 << 20)'"
    output = str(tmp_path / "output")
    first = run_command(["bash", "-c", big], str(tmp_path), {}, output, None)
    second = run_command(["true"], str(tmp_path), {}, output, None)
    assert first.max_rss_mb > 400
    assert second.max_rss_mb < 400
    assert second.cpu_s <= first.cpu_s


def test_what_runs_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    start = time.monotonic()
    returncode, said = run(tmp_path, "sleep 987.5 & echo on; sleep 987.5", limit_s=0.5)
    assert returncode == 124
    assert said == "on\nended after 0.5 s, the time limit of its rule\n"
    assert time.monotonic() - start < 30
    assert not [item for item in psutil.process_iter(["cmdline"]) if item.info["cmdline"] == ["sleep", "987.5"]]
