"""A tiny data set, simulated, for both drivers, and how the tests call them: from the root, as a user does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STRUCTURE = ROOT / "workflows" / "config" / "demo" / "1a8o.pdb"


@dataclass(frozen=True)
class Program:
    """A program started from the root of the checkout, with what it says on both streams as one text."""

    command: tuple[str, ...]

    def words(self, *arguments: str | Path) -> list[str]:
        return [*self.command, *map(str, arguments)]

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 240, **options}
        return subprocess.run(self.words(*arguments), cwd=ROOT, check=False, **settings)


@pytest.fixture(scope="session")
def snakemake() -> Program:
    return Program((sys.executable, "-m", "snakemake", "--profile", "profiles/local"))


@pytest.fixture(scope="session")
def parsl_sfx() -> Program:
    pytest.importorskip("parsl")
    return Program((sys.executable, "-W", "error", "workflows/parsl/sfx.py"))


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Sixteen shots of large crystals on a small detector: a few seconds for the whole chain."""
    cell = [41.98, 41.98, 88.92, 90, 90, 90]
    return {
        "dataset": "tiny",
        "simulate": {
            "structure": str(STRUCTURE),
            "n_shots": 16,
            "crystal": {"size_um": 5.0, "size_jitter": 0.1},
        },
        "stills": {"indexing": {"unit_cell": cell, "space_group": "P43212"}, "chunk_size": 1},
        "merge": {"minimum_multiplicity": 1},
    }


@pytest.fixture(scope="session")
def save() -> Callable[[Path, Mapping[str, Any]], Path]:
    """Function that writes a configuration into a folder and returns its path."""

    def write(folder: Path, data: Mapping[str, Any]) -> Path:
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(dict(data)))
        return path

    return write


@dataclass(frozen=True)
class Finished:
    """A run of the whole chain by Snakemake."""

    config: Path
    trial: Path
    options: tuple[str | Path, ...]
    output: str


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    snakemake: Program,
    tiny: Mapping[str, Any],
    save: Callable[[Path, Mapping[str, Any]], Path],
) -> Finished:
    folder = tmp_path_factory.mktemp("snakemake")
    config = save(folder, {**tiny, "results": str(folder / "results")})
    options = ("--directory", folder, "--configfile", config)
    done = snakemake.run(*options)
    assert done.returncode == 0, done.stdout
    return Finished(config, folder / "results" / "tiny" / "000", options, done.stdout)
