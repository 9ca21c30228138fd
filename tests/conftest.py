"""Fixtures that every chapter's tests share."""

from __future__ import annotations

import importlib.util
import os
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


@pytest.fixture(scope="session")
def mpi_environment() -> dict[str, str]:
    """Environment for mpiexec on one machine; tests that use it carry the marker `mpi`."""
    if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("no mpiexec or no mpi4py (Debian: apt-get install openmpi-bin; pip install 'exafel[mpi]')")
    allow = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    quiet = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **allow, **quiet}
