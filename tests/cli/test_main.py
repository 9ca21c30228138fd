"""The edge: errors become one line and an exit code."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import exafel
from exafel.cli.main import run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"exafel {exafel.__version__}\n"
    assert importlib.metadata.version("exafel") == exafel.__version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config", "explain", "dataste"], "did you mean 'dataset'?"),
        (["config", "show", "--set", "dataste=x"], "unknown key 'dataste', did you mean 'dataset'?"),
        (["config", "show", "--set", "dataset"], "KEY=VALUE"),
        (["config", "show", "--config", "absent.yaml"], "absent.yaml: cannot read the configuration"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_help_starts_fast_without_numerical_libraries() -> None:
    slow = ("numpy", "gemmi", "h5py", "matplotlib", "yaml", "exafel.config.base")
    code = f"import sys, exafel.cli.main; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MAIN = "from exafel.cli.main import main; main()"


@pytest.mark.mpi
def test_an_error_of_all_mpi_ranks_is_told_once(mpi_environment: dict[str, str], tmp_path: Path) -> None:
    mpiexec = shutil.which("mpiexec")
    assert mpiexec is not None
    command = ["cells", "--stills", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [mpiexec, "--oversubscribe", "-n", "3", sys.executable, "-c", MAIN, *command],
        env=mpi_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.returncode == 1
    assert done.stderr.count("no such stills folder") == 1
    assert "Traceback" not in done.stderr


SLOW_DIALS = """#!/bin/sh
case $0 in *version) echo DIALS 3.0; exit;; esac
echo $$ > "{pid}"
exec sleep 60
"""


def test_a_run_that_is_ended_ends_the_program_it_runs(still_cbf_images: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    for name in ("dials.stills_process", "dials.version"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(SLOW_DIALS.format(pid=pid))
        program.chmod(0o755)
    command = ["stills", "--images", str(still_cbf_images), "--out", str(tmp_path / "out"), "--engine", "dials"]
    settings = ["--set", "stills.indexing.unit_cell=[40, 50, 60, 90, 90, 90]", "--ranks", "2"]
    run = subprocess.Popen(
        [sys.executable, "-c", MAIN, *command, *settings],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_until(lambda: pid.is_file() and pid.read_text() != "")
        run.terminate()
        assert "Traceback" not in run.communicate(timeout=30)[1]
    finally:
        run.kill()
    assert run.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def wait_until(reached: Callable[[], bool], seconds: float = 40) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_libraries_take_one_thread_a_rank_unless_told_otherwise(given: dict[str, str], expected: str) -> None:
    program = "import exafel.cli.main, os; print(os.environ['OMP_NUM_THREADS'])"
    plain = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=plain | given, check=True
    )
    assert done.stdout.strip() == expected
