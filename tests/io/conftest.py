"""What real DIALS makes of files: one run of its Python for all tests that ask."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("dxtbx_dump.py")


@pytest.fixture(scope="session")
def ask_dxtbx(dials: Path) -> Callable[..., dict[str, Any]]:
    """Function that sends a request to `dxtbx_dump.py` under DIALS' Python and returns its answer."""
    python = shutil.which("dxtbx.python")
    if python is None:
        pytest.skip("DIALS' own Python is not installed (dxtbx.python)")

    def ask(**request: Any) -> dict[str, Any]:
        done = subprocess.run([python, SCRIPT], input=json.dumps(request), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return ask
