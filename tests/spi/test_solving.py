"""Merging by weight: what is seen in one orientation may be put together first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exafel.config.spi import SpiReconstructConfig
from exafel.parallel.comm import SerialComm
from exafel.spi import rotations
from exafel.spi.backend import Backend
from exafel.spi.blocks import Images, share_out
from exafel.spi.grids import Pixels
from exafel.spi.solving import merge
from exafel.spi.stage import Stage, StageSettings
from exafel.spi.state import Assignments
from exafel.spi.workers import RankWorkers


def test_images_with_common_references_merge_as_one_by_one(backend: Backend) -> None:
    rng = np.random.default_rng(4)
    n, k = 24, 3
    pixels = Pixels(rng.uniform(-0.055, 0.055, size=(3, 80)), np.arange(80))
    photons = rng.random((n, 80)).astype(np.float32)
    config = SpiReconstructConfig(diameter_angstrom=30.0, d_min_angstrom=10.0, halves=False, block_images=10)
    exactly = {"regularisation": (0.1,), "tolerance": 1e-6, "steps": 200}  # no difference by where the steps end
    config = config.model_copy(update={"merging": config.merging.model_copy(update=exactly)})
    images = Images(share_out(n, 1, 10, 1), lambda rows: photons[rows], range(3))
    stage = Stage(StageSettings(config, pixels, "distance", 10.0), images, backend, RankWorkers(SerialComm()))
    references = rotations.random_quaternions(5, rng)
    weights = rng.dirichlet(np.ones(k), size=n)
    common = Assignments(
        references[np.stack([rng.permutation(5)[:k] for _ in range(n)])],
        weights,
        np.zeros((n, k), dtype=np.int64),
        np.zeros(n),
        rng.uniform(0.5, 2.0, size=n),
    )
    # orientations that differ by less than any effect are not recognised as common
    apart = replace(common, quaternions=common.quaternions + rng.normal(scale=1e-9, size=(n, k, 4)))
    together, one_by_one = (merge(stage, a, None, 0).models for a in (common, apart))
    np.testing.assert_allclose(together, one_by_one, atol=1e-4 * np.abs(one_by_one).max())
