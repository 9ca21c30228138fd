"""Fixtures that every chapter's tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and truth beside the checkout; tests that use it carry the marker `data`."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the example data is not beside this checkout (../shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def dials() -> Path:
    """Folder of the DIALS programs; tests that use it carry the marker `dials`."""
    program = shutil.which("dials.version")
    if program is None:
        pytest.skip("DIALS is not installed (Debian: apt-get install dials)")
    return Path(program).parent
