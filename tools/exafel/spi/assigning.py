"""From the models back to the images: the orientation, class and intensity scale of every one."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray, Float32Array, FloatArray
from exafel.config.spi import MatchingConfig
from exafel.spi.blocks import Block
from exafel.spi.matching import Score, match
from exafel.spi.refinement import refine
from exafel.spi.rotations import random_quaternions
from exafel.spi.slicing import batches, slices
from exafel.spi.stage import Stage, photons_of_images
from exafel.spi.state import Assignments

_REFERENCES = 11


def assign(stage: Stage, a: Assignments, models: Float32Array, generation: int, age: int) -> Assignments:
    """Find the place of every image of all blocks again.

    Parameters
    ----------
    a
        What they were.
    models
        Autocorrelations, shape (models, m, m, m).
    generation
        Its number, from which the references are drawn.
    age
        Generations since the random start: first an image has several references by weight, then the best one is
        refined, and then only that, within the class that the image is in.
    """
    parts = stage.workers.gather(_assigned, stage, a, models, generation, age)
    return Assignments.assembled([(block.rows, parts[block.number]) for block in stage.images.blocks])


def _assigned(stage: Stage, a: Assignments, models: Float32Array, generation: int, age: int) -> dict[int, Assignments]:
    return _Assigner(stage, models).assign(a, generation, age)


class _Assigner:
    """Assigns the images of the blocks that are held here."""

    def __init__(self, stage: Stage, models: Float32Array) -> None:
        self._stage = stage
        self._options = stage.config.matching
        n = stage.config.classes
        on_device = [stage.backend.array(model) for model in models]
        self._models = [on_device[block.half * n : (block.half + 1) * n] for block in stage.images.own]

    def assign(self, a: Assignments, generation: int, age: int) -> dict[int, Assignments]:
        """Return what is found, by the number of the block."""
        stage, options, models = self._stage, self._options, self._models
        refined, local = age >= options.refine_from, age >= options.local_from
        if local:
            before = [a.rows(block.rows).hardened() for block in stage.images.own]
            found = [self._refined(*item) for item in zip(stage.images.own, before, models, strict=True)]
        else:
            width = 1.0 if refined else soft_width(options, stage.scorer.score, age)
            keep = options.candidates if refined else int(np.ceil(2 * width)) if width > 1 else 1
            found = self._global(generation, min(keep, options.references), width)
            if refined:
                found = [self._best_refined(*item) for item in zip(stage.images.own, found, models, strict=True)]
        return {
            block.number: self._scaled(block, item, own)
            for block, item, own in zip(stage.images.own, found, models, strict=True)
        }

    def _global(self, generation: int, keep: int, width: float) -> list[Assignments]:
        stage, options = self._stage, self._options
        rng = np.random.default_rng([stage.config.seed, _REFERENCES, generation])
        references = random_quaternions(options.references, rng)  # fresh ones: no image is stuck in a grid's hole
        images = [stage.prepared[block.number] for block in stage.images.own]
        matches = match(images, self._models, references, stage.cube, stage.pixels, stage.scorer, keep)
        result = []
        for item in matches:
            score = stage.backend.host(item.score).astype(np.float64)
            weight = weights_of_width(score, width)
            result.append(
                Assignments(
                    references[stage.backend.host(item.reference)],
                    weight,
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


def soft_width(options: MatchingConfig, score: Score, age: int) -> float:
    """Number of orientations that an image is merged in, by weight, so many generations after a random start.

    With few photons, images that are merged in their best orientation alone make a model that fits their noise, and
    the score falls from generation to generation.
    """
    last = options.soft_end or (4.0 if score == "poisson" else 1.0)
    until = options.soft_until or options.refine_from
    passed = min(1.0, age / max(until, 1))
    return float(max(options.soft, last) ** (1 - passed) * last**passed)


def weights_of_width(score: FloatArray, width: float) -> FloatArray:
    """Weights exp(score / T) of the best references of each image, T such that they count as so many.

    exp of the entropy of an image's weights is `width`: the scale of the scores, which depends on photons and on how
    good the model is by now, does not matter.

    Parameters
    ----------
    score
        Best first, shape (images, k).
    width
        Less than k; at 1, the best has all the weight.

    Returns
    -------
    Shape (images, k); each row sums to 1.
    """
    if width <= 1 or score.shape[1] == 1:
        return np.asarray(np.eye(1, score.shape[1]).repeat(len(score), axis=0))
    below = score - score[:, :1]
    spread = np.maximum(-below[:, -1:], 1e-30)
    low, high = np.full((len(score), 1), -7.0), np.full((len(score), 1), 7.0)  # of log10 T / spread
    for _ in range(30):
        middle = (low + high) / 2
        weight = np.exp(below / (spread * 10**middle))
        weight /= weight.sum(axis=1, keepdims=True)
        entropy = -(weight * np.log(np.maximum(weight, 1e-300))).sum(axis=1, keepdims=True)
        low, high = np.where(entropy < np.log(width), middle, low), np.where(entropy < np.log(width), high, middle)
    weight[weight < 1e-3 * weight[:, :1]] = 0
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def start_scales(stage: Stage) -> FloatArray:
    """Intensity scale of every image of all blocks by its photons, before there is a model, shape (images,)."""
    parts = stage.workers.gather(photons_of_images, stage)
    result = np.ones(sum(len(block.rows) for block in stage.images.blocks))
    for block in stage.images.blocks:
        result[block.rows] = np.maximum(parts[block.number], 1e-3)
    return result
