"""Shots as stage 2 holds them: packed with their coefficients, or compact, to be packed anew whenever they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from exafel.bragg.likelihood import FLOOR_PHOTONS
from exafel.bragg.packed import PackedShot, pack_shot, terms_of
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.shoeboxes import Planes, Shoeboxes, fit_planes
from exafel.bragg.shot_model import ShotParameters, ShotScene
from exafel.bragg.spot_model import box_coefficients
from exafel.errors import InputError

_IMPOSSIBLE = 30.0


@dataclass(frozen=True, eq=False)
class CompactShot:
    """What a shot's packed pixels are made from: some bytes a pixel and no coefficients.

    Parameters
    ----------
    number
        Number of the lattice in the input.
    scene, parameters
        Its model, which stays.
    corners, size
        Its boxes.
    used
        Which pixels of the boxes are good and meet a reflection, a bit each.
    data
        Photons of these, in the smallest type that holds them.
    planes
        Coefficients of the backgrounds, shape (n, 3).
    identity
        What its held-out pixels are chosen by, whatever its number in this run; its number where nothing is given.
    n_hot
        Pixels left out because no amplitude explains them.
    """

    number: int
    scene: ShotScene
    parameters: ShotParameters
    corners: Int32Array
    size: int
    used: AnyArray
    data: AnyArray
    planes: FloatArray
    identity: int | None = None
    n_hot: int = 0

    @property
    def n_bytes(self) -> int:
        """Memory that its arrays take."""
        return self.corners.nbytes + self.used.nbytes + self.data.nbytes + self.planes.nbytes

    def pack(self, reflections: ReflectionSet, held_out: float, seed: int) -> tuple[PackedShot, PackedShot]:
        """Pack the pixels that are fitted, and those held out: the same whenever it is done."""
        coefficients = box_coefficients(self.scene, self.parameters, reflections, self.corners, self.size)
        n = len(self.corners)
        background = Planes(self.planes, np.zeros(n), np.ones(n, dtype=bool)).values(self.size).ravel()
        good = np.unpackbits(self.used, count=n * self.size**2).astype(bool)
        data = np.zeros(len(good))
        data[good] = self.data
        identity = self.number if self.identity is None else self.identity
        out = np.random.default_rng([seed, identity]).random(len(data)) < held_out
        return (
            pack_shot(coefficients, data, background, good & ~out),
            pack_shot(coefficients, data, background, good & out),
        )


def compact_shot(
    number: int,
    scene: ShotScene,
    parameters: ShotParameters,
    reflections: ReflectionSet,
    amplitude: FloatArray,
    boxes: Shoeboxes,
    identity: int | None = None,
) -> CompactShot:
    """Fit the backgrounds of a shot's boxes where its model has no photons, and keep boxes where that worked.

    Pixels of boxes that overlap are taken once, from the first box.

    Raises
    ------
    InputError
        No box has a usable background.
    """
    coefficients = box_coefficients(scene, parameters, reflections, boxes.corners, boxes.size)
    model = (coefficients @ amplitude**2).reshape(boxes.data.shape)
    planes = fit_planes(boxes.data, boxes.good & (model < 0.1 * np.sqrt(1 + np.maximum(boxes.data, 0))))
    if not planes.good.any():
        raise InputError("no reflection has a usable background")
    kept = boxes.select(planes.good)
    terms = terms_of(coefficients[np.repeat(planes.good, boxes.size**2)])
    used = np.zeros(kept.data.size, dtype=bool)
    used[terms[0]] = True
    used &= (kept.good & first_seen(kept)).ravel()
    hot = impossible_pixels(terms, kept.data.ravel(), planes.values(boxes.size)[planes.good].ravel(), used)
    used &= ~hot
    data = _smallest(kept.data.ravel()[used])
    bits, backgrounds = np.packbits(used), planes.coefficients[planes.good]
    return CompactShot(
        number, scene, parameters, kept.corners, kept.size, bits, data, backgrounds, identity, int(hot.sum())
    )


def impossible_pixels(
    terms: tuple[IntArray, IntArray, FloatArray], data: FloatArray, background: FloatArray, used: BoolArray
) -> BoolArray:
    """Where there are more photons than the other pixels of the reflection allow, whatever its amplitude: hot pixels.

    The intensity of a reflection is fitted to all of its pixels but one, by weighted least squares. That one is
    impossible where it is above what they predict by 30 standard deviations: of its photons, of the prediction, and of
    a model that may be wrong by as much as it predicts. One such pixel would draw its reflection to itself, or, held
    out, decide which iteration is the best.

    Parameters
    ----------
    terms
        Pixel, reflection and coefficient of every term.
    data, background, used
        Of every pixel, shape (n,).

    Returns
    -------
    Shape (n,); False where a pixel meets several reflections.
    """
    row, column, k = terms
    alone = used[row] & (np.bincount(row, minlength=len(data))[row] == 1)
    row, column, k = row[alone], column[alone], k[alone]
    reflections, column = np.unique(column, return_inverse=True)
    excess, weight = data[row] - background[row], 1 / np.maximum(np.maximum(data[row], background[row]), FLOOR_PHOTONS)

    def others(term: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(column, term, len(reflections))[column] - term, dtype=np.float64)

    information = np.maximum(others(weight * k * k), 1e-300)
    expected = np.maximum(others(weight * k * excess) / information * k, 0)
    variance = background[row] + expected + k * k / information + expected**2
    found = np.zeros(len(data), dtype=bool)
    found[row] = excess - expected > _IMPOSSIBLE * np.sqrt(np.maximum(variance, FLOOR_PHOTONS))
    return found


def first_seen(boxes: Shoeboxes) -> BoolArray:
    """Where a pixel is in no earlier box, shape (n, size, size)."""
    pixels = boxes.pixels().reshape(-1, 3).astype(np.int64)
    span = int(pixels.max(initial=0)) + 1
    _, first = np.unique((pixels[:, 0] * span + pixels[:, 1]) * span + pixels[:, 2], return_index=True)
    seen = np.zeros(len(pixels), dtype=bool)
    seen[first] = True
    return seen.reshape(boxes.data.shape)


def _smallest(data: FloatArray) -> AnyArray:
    """Whole numbers as 16-bit integers where they fit, everything else in single precision."""
    if np.array_equal(data, np.rint(data)) and np.abs(data).max(initial=0) < 2**15:
        return data.astype(np.int16)
    return data.astype(np.float32)


def share_by_size(sizes: Sequence[int], n_ranks: int) -> list[list[int]]:
    """Numbers of the shots of each rank: the largest first, each to the rank with the least so far (Graham 1969).

    Within a rank they are in ascending order.
    """
    load = np.zeros(n_ranks)
    shares: list[list[int]] = [[] for _ in range(n_ranks)]
    for shot in sorted(range(len(sizes)), key=lambda item: (-sizes[item], item)):
        rank = int(np.argmin(load))
        shares[rank].append(shot)
        load[rank] += sizes[shot]
    return [sorted(share) for share in shares]
