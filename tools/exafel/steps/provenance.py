"""Which state of the source a run was made with."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def git_describe() -> str:
    """Output of ``git describe`` where the package runs from a checkout; empty where it was installed elsewhere."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # not the repository of somebody's environment
        return _git("describe", "--always", "--dirty", "--tags")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    folder = Path(__file__).resolve().parent
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
