"""Everything that stays the same while generations go on at one resolution."""

from __future__ import annotations

from copy import copy
from functools import cached_property

import numpy as np

from exafel.arrays import DeviceArray, FloatArray
from exafel.config.spi import SpiReconstructConfig
from exafel.spi.backend import Backend
from exafel.spi.blocks import Block, Images
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Score, Scorer
from exafel.spi.rotations import point_group


class Stage:
    """Images up to a resolution, on the device, with the cube and the weights that belong to it.

    Parameters
    ----------
    config
        Parameters of the step.
    images
        This rank's images.
    pixels
        All pixels that are used at any resolution; columns of the images.
    score
        How images are compared with views.
    d_angstrom
        The resolution.
    """

    def __init__(
        self,
        config: SpiReconstructConfig,
        images: Images,
        pixels: Pixels,
        score: Score,
        d_angstrom: float,
        backend: Backend,
    ) -> None:
        self.config, self.images, self.backend = config, images, backend
        self.cube = Cube.for_particle(config.diameter_angstrom, d_angstrom)
        self.pixels = pixels.within(d_angstrom)
        columns = np.flatnonzero(pixels.length <= 1 / d_angstrom)
        self.photons = {block.number: backend.array(images.photons(block, columns)) for block in images.own}
        self.n_halves = 2 if config.halves else 1
        self.n_models = self.n_halves * config.classes
        self.symmetry = point_group(config.symmetry)
        length = np.maximum(self.pixels.length * config.diameter_angstrom / 10, 1e-2).astype(np.float32)
        self.merge_weight = backend.array(length**config.merging.weight_power)
        weight = backend.array(length**config.matching.weight_power)
        self.scorer = Scorer(score, weight, self._ring_means(), backend)

    def with_(self, config: SpiReconstructConfig, images: Images) -> Stage:
        """The same pixels and photons, for other halves."""
        other = copy(self)
        other.config, other.images = config, images
        other.n_halves = 2 if config.halves else 1
        other.n_models = other.n_halves * config.classes
        return other

    def model_of(self, block: Block, kind: int) -> int:
        """Number of the model of a class in a block's half."""
        return block.half * self.config.classes + kind

    def _ring_means(self) -> DeviceArray:
        """Mean photons of all images on each pixel's ring, half a fringe wide."""
        ring = (self.pixels.length * 2 * self.config.diameter_angstrom).astype(np.int64)
        sums = {
            number: np.bincount(ring, self.backend.host(d.sum(axis=0, dtype=np.float64))).astype(np.float64)
            for number, d in self.photons.items()
        }
        counts = np.bincount(ring) * sum(len(block.rows) for block in self.images.blocks)
        means = self.images.ordered_sum(sums) / np.maximum(counts, 1)
        return self.backend.array(np.maximum(means, 1e-6 * means.max())[ring])

    @cached_property
    def mean_photons(self) -> float:
        """Mean over images of their photons up to this resolution."""
        sums = {number: np.array([float(d.sum(dtype=np.float64)), len(d)]) for number, d in self.photons.items()}
        photons, n = self.images.ordered_sum(sums)
        return float(photons / n)

    def photons_of_images(self, block: Block) -> FloatArray:
        """Photons of each image of a block up to this resolution, relative to the mean of all."""
        total = self.photons[block.number].sum(axis=1, dtype=np.float64)
        return np.asarray(self.backend.host(total) / self.mean_photons, dtype=np.float64)
