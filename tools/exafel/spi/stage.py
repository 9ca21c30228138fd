"""Everything that stays the same while generations go on at one resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.config.spi import SpiReconstructConfig
from exafel.parallel.comm import SerialComm
from exafel.spi.backend import Backend, backend_of
from exafel.spi.blocks import Block, Images
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Score, Scorer
from exafel.spi.rotations import point_group
from exafel.spi.workers import RankWorkers, Workers, ordered_sum


@dataclass(frozen=True, eq=False)
class Measured:
    """What is measured over all images of a stage.

    Parameters
    ----------
    ring
        Mean photons on each pixel's ring, half a fringe wide, shape (pixels,).
    photons
        Mean over images of their photons.
    """

    ring: FloatArray
    photons: float


@dataclass(frozen=True, eq=False)
class StageSettings:
    """What makes a stage, but for its images and who works on them; it can be pickled.

    Parameters
    ----------
    config
        Parameters of the step.
    pixels
        All pixels that are used at any resolution; columns of the images.
    score
        How images are compared with views.
    d_angstrom
        The resolution.
    measured
        None before it is known.
    """

    config: SpiReconstructConfig
    pixels: Pixels
    score: Score
    d_angstrom: float
    measured: Measured | None = None

    @property
    def token(self) -> tuple[float, bool, bool]:
        """What tells the stages of one reconstruction apart."""
        return self.d_angstrom, self.config.halves, self.measured is not None


class Stage:
    """Images up to a resolution, on the device, with the cube and the weights that belong to it.

    Parameters
    ----------
    settings
        What makes it; what is to be measured is measured over the images of all.
    images
        Those that are held here.
    workers
        Those that hold all of them.
    """

    def __init__(self, settings: StageSettings, images: Images, backend: Backend, workers: Workers) -> None:
        self.config, self.images, self.backend, self.workers = settings.config, images, backend, workers
        config, d = settings.config, settings.d_angstrom
        self.cube = Cube.for_particle(config.diameter_angstrom, d)
        self.pixels = settings.pixels.within(d)
        columns = np.flatnonzero(settings.pixels.length <= 1 / d)
        self.photons = {block.number: backend.array(images.photons(block, columns)) for block in images.own}
        self.n_halves = 2 if config.halves else 1
        self.n_models = self.n_halves * config.classes
        self.symmetry = point_group(config.symmetry)
        length = np.maximum(self.pixels.length * config.diameter_angstrom / 10, 1e-2).astype(np.float32)
        self.merge_weight = backend.array(length**config.merging.weight_power)
        self._match_weight = backend.array(length**config.matching.weight_power)
        self.settings = settings
        if settings.measured is None:
            self.settings = replace(settings, measured=self._measure())

    @staticmethod
    def part(settings: StageSettings, images: Images) -> Stage:
        """Make the part of a stage that a task works on, on a device of its own."""
        backend = backend_of(settings.config.backend, settings.config.threads)
        own = images if settings.config.halves else images.joined()
        if settings.measured is None:  # it is about to be measured
            settings = replace(
                settings, measured=Measured(np.ones(len(settings.pixels.within(settings.d_angstrom))), 1)
            )
            stage = Stage(settings, own, backend, RankWorkers(SerialComm()))
            stage.settings = replace(settings, measured=None)
            return stage
        return Stage(settings, own, backend, RankWorkers(SerialComm()))

    def joined(self) -> Stage:
        """The same images as one half."""
        settings = replace(self.settings, config=self.config.model_copy(update={"halves": False}))
        return Stage(settings, self.images.joined(), self.backend, self.workers)

    @cached_property
    def scorer(self) -> Scorer:
        """How images are compared with views."""
        return Scorer(self.settings.score, self._match_weight, self.backend.array(self._known.ring), self.backend)

    @cached_property
    def prepared(self) -> dict[int, AnyArray]:
        """Images of each block that is held here, ready to be compared."""
        return {number: self.scorer.images(d) for number, d in self.photons.items()}

    @cached_property
    def support(self) -> BoolArray:
        """Where an autocorrelation may differ from zero."""
        return self.cube.ball(self.config.diameter_angstrom)

    @property
    def _known(self) -> Measured:
        assert self.settings.measured is not None
        return self.settings.measured

    def model_of(self, block: Block, kind: int) -> int:
        """Number of the model of a class in a block's half."""
        return block.half * self.config.classes + kind

    def _measure(self) -> Measured:
        n = sum(len(block.rows) for block in self.images.blocks)
        sums = ordered_sum(self.workers.gather(_photons_on_rings, self))
        counts = np.bincount(self.ring, minlength=len(sums)) * n
        means = sums / np.maximum(counts, 1)
        return Measured(np.maximum(means, 1e-6 * means.max())[self.ring], float(sums.sum() / n))

    @cached_property
    def ring(self) -> AnyArray:
        """Number of each pixel's ring."""
        return (self.pixels.length * 2 * self.config.diameter_angstrom).astype(np.int64)

    def photons_of_images(self, block: Block) -> FloatArray:
        """Photons of each image of a block up to this resolution, relative to the mean of all."""
        total = self.photons[block.number].sum(axis=1, dtype=np.float64)
        return np.asarray(self.backend.host(total) / self._known.photons, dtype=np.float64)


def _photons_on_rings(stage: Stage) -> dict[int, FloatArray]:
    return {
        number: np.bincount(stage.ring, stage.backend.host(d.sum(axis=0, dtype=np.float64))).astype(np.float64)
        for number, d in stage.photons.items()
    }


def photons_of_images(stage: Stage) -> dict[int, FloatArray]:
    """Relative photons of the images of each block that is held here."""
    return {block.number: stage.photons_of_images(block) for block in stage.images.own}
