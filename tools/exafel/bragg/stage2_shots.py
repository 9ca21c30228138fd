"""Shots as stage 2 holds them: packed with their coefficients, or compact, to be packed anew whenever they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, Int32Array
from exafel.bragg.packed import PackedShot, pack_shot
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.shoeboxes import Planes, Shoeboxes, fit_planes
from exafel.bragg.shot_model import ShotParameters, ShotScene
from exafel.bragg.spot_model import box_coefficients
from exafel.errors import InputError


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
    data
        Photons of all pixels, negative where bad, flat, in the smallest type that holds them.
    planes
        Coefficients of the backgrounds, shape (n, 3).
    identity
        What its held-out pixels are chosen by, whatever its number in this run; its number where nothing is given.
    """

    number: int
    scene: ShotScene
    parameters: ShotParameters
    corners: Int32Array
    size: int
    data: AnyArray
    planes: FloatArray
    identity: int | None = None

    @property
    def n_bytes(self) -> int:
        """Memory that its arrays take."""
        return self.corners.nbytes + self.data.nbytes + self.planes.nbytes

    def pack(self, reflections: ReflectionSet, held_out: float, seed: int) -> tuple[PackedShot, PackedShot]:
        """Pack the pixels that are fitted, and those held out: the same whenever it is done."""
        coefficients = box_coefficients(self.scene, self.parameters, reflections, self.corners, self.size)
        n = len(self.corners)
        background = Planes(self.planes, np.zeros(n), np.ones(n, dtype=bool)).values(self.size).ravel()
        data = self.data.astype(np.float64)
        good = data >= 0
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
    data = np.where(kept.good & first_seen(kept), kept.data, -1.0).ravel()
    planes_kept = planes.coefficients[planes.good]
    return CompactShot(number, scene, parameters, kept.corners, kept.size, _smallest(data), planes_kept, identity)


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
    if np.array_equal(data, np.rint(data)) and data.max(initial=0) < 2**15:
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
