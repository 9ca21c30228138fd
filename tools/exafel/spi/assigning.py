"""From the models back to the images: the orientation, class and intensity scale of every image of all ranks."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, Float32Array, FloatArray
from exafel.spi.blocks import Block
from exafel.spi.matching import match
from exafel.spi.refinement import refine
from exafel.spi.rotations import random_quaternions
from exafel.spi.slicing import batches, slices
from exafel.spi.stage import Stage
from exafel.spi.state import Assignments

_REFERENCES = 11


class Assigner:
    """Assigns at one resolution.

    Parameters
    ----------
    stage
        Its images.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._options = stage.config.matching
        self._prepared = [stage.scorer.images(stage.photons[block.number]) for block in stage.images.own]

    def assign(
        self, a: Assignments, models: Float32Array, generation: int, *, refined: bool, local: bool
    ) -> Assignments:
        """Find every image's place again.

        Parameters
        ----------
        a
            What they were.
        models
            Autocorrelations, shape (models, m, m, m).
        refined
            Refine the best global references, one by one.
        local
            Only refine, within the class that an image is in.
        """
        stage, n = self._stage, self._stage.config.classes
        on_device = [stage.backend.array(model) for model in models]
        own_models = [on_device[block.half * n : (block.half + 1) * n] for block in stage.images.own]
        if local:
            before = [a.rows(block.rows).hardened() for block in stage.images.own]
            found = [self._refined(*item) for item in zip(stage.images.own, before, own_models, strict=True)]
        else:
            found = self._global(own_models, generation, self._options.candidates if refined else self._options.soft)
            if refined:
                found = [self._best_refined(*item) for item in zip(stage.images.own, found, own_models, strict=True)]
        parts = {
            block.number: self._scaled(block, item, own)
            for block, item, own in zip(stage.images.own, found, own_models, strict=True)
        }
        everything = stage.images.all_of(parts)
        return Assignments.assembled([(block.rows, everything[block.number]) for block in stage.images.blocks])

    def _global(self, models: list[list[AnyArray]], generation: int, keep: int) -> list[Assignments]:
        stage, options = self._stage, self._options
        rng = np.random.default_rng([stage.config.seed, _REFERENCES, generation])
        references = random_quaternions(options.references, rng)  # fresh ones: no image is stuck in a grid's hole
        matches = match(self._prepared, models, references, stage.cube, stage.pixels, stage.scorer, keep)
        result = []
        for item in matches:
            score = stage.backend.host(item.score).astype(np.float64)
            weight = np.exp((score - score[:, :1]) / options.soft_temperature)
            weight[weight < 0.01] = 0
            result.append(
                Assignments(
                    references[stage.backend.host(item.reference)],
                    weight / weight.sum(axis=1, keepdims=True),
                    stage.backend.host(item.model).astype(np.int64),
                    score[:, 0],
                    np.ones(len(score)),
                )
            )
        return result

    def _refined(self, block: Block, a: Assignments, models: list[AnyArray]) -> Assignments:
        stage = self._stage
        q, score = a.best.copy(), np.zeros(len(block.rows))
        for kind, model in enumerate(models):
            rows = np.flatnonzero(a.best_class == kind)
            if len(rows):
                d = stage.photons[block.number][rows]
                steps = self._options.refine_steps
                q[rows], score[rows] = refine(d, model, q[rows], stage.cube, stage.pixels, stage.scorer, steps)
        return a.hardened(q, score)

    def _best_refined(self, block: Block, found: Assignments, models: list[AnyArray]) -> Assignments:
        """Refine an image's best references and keep what scores best.

        Where the image was is not among them: a model that it has helped to make would hold it there.
        """
        best = self._refined(block, found.candidate(0), models)
        for k in range(1, found.weights.shape[1]):
            other = self._refined(block, found.candidate(k), models)
            better = np.flatnonzero(other.score > best.score)
            best = best.replaced(better, other.rows(better))
        return best

    def _scaled(self, block: Block, a: Assignments, models: list[AnyArray]) -> Assignments:
        """Fit the intensity scale of every image to its best view: by photons for counts, else by least squares."""
        stage, backend = self._stage, self._stage.backend
        weight = stage.scorer.weight if stage.scorer.score == "distance" else 1 / stage.scorer.ring
        scale = stage.photons_of_images(block)
        for kind, model in enumerate(models):
            rows = np.flatnonzero(a.best_class == kind)
            for part in batches(len(rows), len(stage.pixels)):
                chosen = rows[part]
                view = slices([model], a.best[chosen], stage.cube, stage.pixels, backend)[0]
                d = stage.photons[block.number][chosen]
                top = (weight * d * view).sum(axis=1, dtype=np.float64)
                ratio = backend.host(top / (weight * view * view).sum(axis=1, dtype=np.float64))
                usable = np.isfinite(ratio) & (ratio > 0.1 * scale[chosen]) & (ratio < 10 * scale[chosen])
                scale[chosen] = np.where(usable, ratio, scale[chosen])
        return a.with_scale(scale)


def start_scales(stage: Stage) -> FloatArray:
    """Intensity scale of every image of all ranks by its photons, before there is a model, shape (images,)."""
    parts = stage.images.all_of({block.number: stage.photons_of_images(block) for block in stage.images.own})
    result = np.ones(sum(len(block.rows) for block in stage.images.blocks))
    for block in stage.images.blocks:
        result[block.rows] = np.maximum(parts[block.number], 1e-3)
    return result
