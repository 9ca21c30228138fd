"""The house rules that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = (".py", ".hpp", ".cpp", ".smk", ".j2")


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_of_code_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix in CODE and (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_no_path_of_one_machine_is_in_a_tracked_file() -> None:
    pattern = re.compile(r"(?:^|[\"' =(])/(?:root|home|work)/[A-Za-z]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in (*CODE, ".md", ".toml", ".yaml", ".json", ".txt", "")
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line) and path.name != "test_house.py"
    ]
    assert found == []


def test_the_package_has_no_side_effects_at_import() -> None:
    """Top-level calls that configure logging, change the environment or touch the disk are not allowed."""
    forbidden = {"basicConfig", "mkdir", "makedirs", "chdir", "putenv", "setLevel"}
    found = []
    for path in (ROOT / "tools" / "exafel").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                function = node.value.func
                if isinstance(function, ast.Attribute) and function.attr in forbidden:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
