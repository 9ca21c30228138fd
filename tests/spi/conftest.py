"""A small asymmetric particle of a few blobs of atoms, and shots of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.spi.backend import Backend, cpu_backend
from exafel.spi.particles import Particle, Scatterers, read_particles

ATOM = "ATOM  {n:5d}  {name:<3s} ALA A{res:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00          {element:>2s}\n"


def blobs(seed: int, n_blobs: int = 6, reach: float = 20.0) -> np.ndarray:
    """Atoms in blobs within a radius, no two blobs alike, shape (n, 3)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_blobs, 3))
    centres *= reach * rng.uniform(0.4, 0.8, size=(n_blobs, 1)) / np.linalg.norm(centres, axis=1, keepdims=True)
    return np.concatenate([c + rng.normal(scale=2.5, size=(20 + 25 * i, 3)) for i, c in enumerate(centres)])


def write_pdb(path: Path, positions: np.ndarray) -> Path:
    elements = ("C", "N", "O", "C")
    lines = [
        ATOM.format(n=n + 1, name=elements[n % 4], res=n // 4 + 1, x=x, y=y, z=z, element=elements[n % 4])
        for n, (x, y, z) in enumerate(positions)
    ]
    path.write_text("".join(lines) + "END\n")
    return path


@pytest.fixture(scope="session")
def pdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pdb(tmp_path_factory.mktemp("pdb") / "blobs.pdb", blobs(3))


@pytest.fixture(scope="session")
def other_pdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pdb(tmp_path_factory.mktemp("pdb") / "other.pdb", blobs(9, n_blobs=4, reach=15.0))


@pytest.fixture(scope="session")
def particle(pdb: Path) -> Particle:
    return read_particles(pdb)[0]


@pytest.fixture(scope="session")
def one_atom() -> Particle:
    return Particle("one", (Scatterers("C", np.zeros((1, 3)), np.ones(1)),), 1, 0.0)


@pytest.fixture(scope="session")
def backend() -> Backend:
    return cpu_backend()


def config(pdb: Path, **changes: object) -> SimulateSpiConfig:
    """A detector to 8 angstrom at the corner, and a beam that gives some thousand photons."""
    data: dict[str, object] = {
        "structures": (str(pdb),),
        "n_shots": 6,
        "seed": 5,
        "detector": {"type": "square", "size_px": 24, "side_mm": 100.0, "distance_mm": 200.0},
        "pulse": {"focus_radius_um": 0.03},
        **changes,
    }
    return SimulateSpiConfig.model_validate(data)
