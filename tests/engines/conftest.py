"""DIALS as it can be met: with and without what it needs to index stills."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.engines.dials import DialsStills
from exafel.errors import EngineError


@pytest.fixture
def incomplete_dials(dials: Path) -> None:
    """A DIALS that cannot index stills, such as Debian's."""
    try:
        DialsStills().check()
    except EngineError:
        return
    pytest.skip("this DIALS has the xfel extensions")


@pytest.fixture
def complete_dials(dials: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DIALS that can.

    Where the module xfel_mono_sim_ext is missing, an empty one takes its place: DIALS imports the package that wants
    it, and of that package uses only Python code.
    """
    try:
        DialsStills().check()
    except EngineError:
        folder = tmp_path_factory.mktemp("modules")
        (folder / "xfel_mono_sim_ext.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(folder))
        DialsStills().check()
