"""A command in a worker: exit codes, output, measure, time limit."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("parsl")

from snakemake_executor_plugin_parsl import task
from snakemake_executor_plugin_parsl.task import NodeLostError, run_command


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
    own = bytearray(100 << 20)  # the worker's own memory is not the command's
    first = run_command(["bash", "-c", big], str(tmp_path), {}, output, None)
    second = run_command(["true"], str(tmp_path), {}, output, None)
    del own
    assert first.max_rss_mb > 400
    assert second.max_rss_mb < 50
    assert second.cpu_s <= first.cpu_s


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    output = tmp_path / "output"
    outcome = run_command(["no-such-program"], str(tmp_path), {}, str(output), None)
    assert outcome.returncode == 127
    assert output.read_text() == "no-such-program: No such file or directory\n"


def test_a_command_that_ends_on_request_is_still_out_of_time(tmp_path: Path) -> None:
    returncode, said = run(tmp_path, "trap 'echo saved; exit 0' TERM; while true; do sleep 0.05; done", limit_s=0.5)
    assert returncode == 124
    assert said.endswith("saved\nended after 0.5 s, the time limit of its rule\n")


def test_what_runs_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    start = time.monotonic()
    returncode, said = run(tmp_path, "sleep 987.5 & echo on; sleep 987.5", limit_s=0.5)
    assert returncode == 124
    assert said == "on\nended after 0.5 s, the time limit of its rule\n"
    assert time.monotonic() - start < 30
    assert not [item for item in psutil.process_iter(["cmdline"]) if item.info["cmdline"] == ["sleep", "987.5"]]


@pytest.mark.parametrize("answers", [True, False])
def test_a_failure_is_the_commands_only_where_all_nodes_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    srun = tmp_path / "srun"
    srun.write_text(f"#!/bin/sh\nexit {0 if answers else 1}\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setattr(task, "_LOST_NODE_S", 0)
    if answers:
        assert run(tmp_path, "exit 3") == (3, "")
    else:
        with pytest.raises(NodeLostError, match="a node of its pilot does not answer"):
            run(tmp_path, "exit 3")
    assert run(tmp_path, "true") == (0, "")
