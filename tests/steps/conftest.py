"""Images of a known crystal, their lattices, and merged data: what tests of stages 1 and 2 start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pixel_shots import CELL, GROUP, N_CELLS, amplitudes, beam, crystal, detector, noisy, photons, reflections

from exafel.config.base import validate
from exafel.config.stills import StillsConfig
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.truth import TrueShot, write_true_amplitudes, write_truth
from exafel.parallel.comm import SerialComm
from exafel.steps import stills

N_SHOTS = 10


@dataclass(frozen=True)
class PixelChain:
    """Folders and files of the test's data set."""

    images: Path
    stills: Path
    truth: Path
    mtz: Path
    start: Path


@pytest.fixture(scope="session")
def pixel_chain(tmp_path_factory: pytest.TempPathFactory) -> PixelChain:
    """Ten shots, indexed; ``truth.mtz`` has the true amplitudes, ``start.mtz`` amplitudes 15 % off without anomalous
    differences."""
    folder = tmp_path_factory.mktemp("pixels")
    known, geometry, light = reflections(), detector(), beam()
    F = amplitudes(known)
    images, shots = folder / "images.h5", []
    with NXmxWriter(images, geometry, N_SHOTS) as writer:
        for number in range(N_SHOTS):
            true = crystal(100 + number)
            scale = 400.0 * (1 + 0.1 * number)
            image = noisy(photons(true, known, F, geometry, light, scale), number)
            writer.append(list(image), light)
            shots.append(TrueShot(images.name, number, number, 1.3, true, scale, N_CELLS))
    write_truth(folder / "truth.jsonl", shots)
    n_plus = int(np.sum(np.arange(len(known)) <= known.mate))
    plus, minus = F[:n_plus], F[known.mate[:n_plus]]
    hkl = known.hkl[:n_plus]
    write_true_amplitudes(
        folder / "truth.mtz", np.concatenate([hkl, -hkl]), np.concatenate([plus, minus]), CELL, GROUP, anomalous=True
    )
    rng = np.random.default_rng(8)
    mean = 0.5 * (plus + minus) * (1 + 0.15 * rng.standard_normal(n_plus))
    write_true_amplitudes(folder / "start.mtz", hkl, np.maximum(mean, 1), CELL, GROUP, anomalous=False)
    config = {
        "spotfinding": {"min_spots": 8, "global_threshold": 30, "min_spot_size": 2, "d_min": 2.6},
        "indexing": {"unit_cell": list(CELL), "space_group": GROUP.hm},
        "integration": {"d_min": 2.6},
    }
    request = stills.request(validate(StillsConfig, config), [images], folder / "stills")
    stills.run(request, SerialComm())
    return PixelChain(images, folder / "stills", folder / "truth.jsonl", folder / "truth.mtz", folder / "start.mtz")
