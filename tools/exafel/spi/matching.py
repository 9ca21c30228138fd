"""Match: the orientation and class of every image, by comparing it with reference views.

Two scores, both free of the image's unknown intensity scale, larger is better:

distance
    Σ w (d - φ m)², minimised over φ, as the cosine ⟨d, m⟩ / (|d| |m|) with weights w = |s|^power.
poisson
    log-likelihood of the photon counts given their number: Σ d log(m / Σm) (Loh & Elser 2009, Phys. Rev. E 80, 026705,
    eq. 8, with the scale profiled out).

Either is one matrix product a batch of references; only the best few references of each image are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from exafel.arrays import AnyArray, DeviceArray
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube, Pixels
from exafel.spi.slicing import batches, slices

Score = Literal["distance", "poisson"]

FLOOR = 0.02
"""Least intensity of a model, as a fraction of the mean on its ring: no pixel is quite dark."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """How images are compared with views, over a set of pixels.

    Parameters
    ----------
    weight
        Weight of each pixel in the distance, shape (pixels,), on the device.
    ring
        Mean intensity of all images on each pixel's ring, shape (pixels,), on the device.
    """

    score: Score
    weight: AnyArray
    ring: AnyArray
    backend: Backend

    def images(self, d: AnyArray) -> DeviceArray:
        """Prepare images, shape (n, pixels), for products with prepared views."""
        if self.score == "poisson":
            return d
        d = d * self.backend.xp.sqrt(self.weight)
        return d / self._norm(d)

    def views(self, m: AnyArray) -> DeviceArray:
        """Prepare views, shape (n, pixels)."""
        xp = self.backend.xp
        if self.score == "distance":
            m = m * xp.sqrt(self.weight)
            return m / self._norm(m)
        m = self.positive(m)
        return xp.log(m) - xp.log(m.sum(axis=-1, keepdims=True))

    def positive(self, m: AnyArray) -> DeviceArray:
        """Views without values too near to zero for their scale."""
        xp = self.backend.xp
        scale = xp.maximum(m.sum(axis=-1, keepdims=True), 1e-12) / self.ring.sum()
        return xp.maximum(m, FLOOR * scale * self.ring)

    def pairs(self, d: AnyArray, m: AnyArray) -> DeviceArray:
        """Score of image i with view i, shape (n,)."""
        return (self.images(d) * self.views(m)).sum(axis=-1)

    def _norm(self, x: AnyArray) -> DeviceArray:
        xp = self.backend.xp
        return xp.maximum(xp.sqrt((x * x).sum(axis=-1, keepdims=True)), 1e-20)


@dataclass(frozen=True, eq=False)
class Matches:
    """The best references of each image, best first: number of the reference, of the model, and the score, (n, k)."""

    reference: AnyArray
    model: AnyArray
    score: AnyArray


def match(
    images: Sequence[AnyArray],
    models: Sequence[Sequence[AnyArray]],
    references: AnyArray,
    cube: Cube,
    pixels: Pixels,
    scorer: Scorer,
    keep: int = 1,
) -> list[Matches]:
    """Compare every image with every reference view of every model of its group.

    Parameters
    ----------
    images
        Of each block, prepared by ``scorer.images``, shape (n, pixels).
    models
        Of each block, the autocorrelations that it is compared with: one a class. Blocks may share them.
    references
        Orientations, shape (references, 4); the same for all.
    keep
        References to keep of each image.
    """
    found = [_Best(len(d), keep, scorer.backend) for d in images]
    groups = _pairs_of_models(models)
    for rows in batches(len(references), len(pixels)):
        for pair in groups:
            views = slices([model for _, model in pair], references[rows], cube, pixels, scorer.backend)
            prepared = {key: scorer.views(view) for (key, _), view in zip(pair, views, strict=True)}
            for block, (d, own) in enumerate(zip(images, models, strict=True)):
                for number, model in enumerate(own):
                    if id(model) in prepared:
                        found[block].update(d @ prepared[id(model)].T, rows.start, number)
    return [best.matches() for best in found]


def _pairs_of_models(models: Sequence[Sequence[AnyArray]]) -> list[list[tuple[int, AnyArray]]]:
    """Different models, two and two: two share a transform."""
    distinct = list({id(model): model for own in models for model in own}.items())
    return [distinct[i : i + 2] for i in range(0, len(distinct), 2)]


class _Best:
    """The best few of each image so far."""

    def __init__(self, n: int, keep: int, backend: Backend) -> None:
        self._xp: Any = backend.xp
        self._keep = keep
        self._score = self._xp.full((n, keep), -np.inf, dtype=np.float32)
        self._place = self._xp.zeros((n, keep), dtype=np.int64)
        self._model = self._xp.zeros((n, keep), dtype=np.int32)

    def update(self, scores: AnyArray, first: int, model: int) -> None:
        """Take scores with references `first`, ... of a model, shape (n, references)."""
        xp = self._xp
        keep = min(self._keep, scores.shape[1])
        if keep == 1:
            column = xp.argmax(scores, axis=1)[:, None]
        else:
            column = xp.argpartition(scores, scores.shape[1] - keep, axis=1)[:, -keep:]
        score = xp.concatenate([self._score, xp.take_along_axis(scores, column, axis=1)], axis=1)
        place = xp.concatenate([self._place, column + first], axis=1)
        number = xp.concatenate([self._model, xp.full(column.shape, model, dtype=np.int32)], axis=1)
        order = xp.argsort(-score, axis=1)[:, : self._keep]
        self._score, self._place, self._model = (xp.take_along_axis(x, order, axis=1) for x in (score, place, number))

    def matches(self) -> Matches:
        """What has been kept."""
        return Matches(self._place, self._model, self._score)
