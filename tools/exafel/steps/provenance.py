"""Which state of the source a run was made with."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def git_describe() -> str:
    """Output of ``git describe`` where the package runs from a checkout; empty where it was installed elsewhere."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", "provenance.py"], cwd=folder, capture_output=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 and tracked.returncode == 0 else ""
