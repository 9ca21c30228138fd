"""The edge: errors become one line and an exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

import exafel
from exafel.cli.main import run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"exafel {exafel.__version__}\n"


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
    code = (
        "import sys, exafel.cli.main; print([m for m in ('numpy', 'gemmi', 'h5py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
