"""Which shots can be used, and which pixels of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from exafel.arrays import Float32Array, IntArray
from exafel.errors import InputError
from exafel.io.spi_file import SpiShots
from exafel.parallel.comm import Communicator
from exafel.spi.grids import Pixels
from exafel.spi.matching import Score

_AT_ONCE = 500


def usable_pixels(shots: SpiShots, d_min_angstrom: float) -> Pixels:
    """Good pixels up to a resolution.

    Raises
    ------
    InputError
        The geometry has no such pixels, or its vectors are no numbers.
    """
    s = shots.geometry.s.reshape(3, -1)
    good = shots.geometry.good.ravel()
    if not np.isfinite(s[:, good]).all():
        raise InputError("scattering vectors are not finite", where=shots.place(0)[0], hint="mask these pixels")
    index = np.flatnonzero(good)
    return Pixels(s[:, index], index).within(d_min_angstrom)


@dataclass(frozen=True, eq=False)
class Usable:
    """Numbers of shots that can be used, how many cannot by reason, and how their values are best compared."""

    shots: IntArray
    reasons: dict[str, int]
    score: Score


def survey(shots: SpiShots, wanted: IntArray, pixels: Pixels, comm: Communicator) -> Usable:
    """Look at all wanted shots, each rank at its part: values that are no numbers, and shots without photons, go.

    The score is ``poisson`` where values are whole numbers, less than one on average.
    """
    mine = np.array_split(wanted, comm.size)[comm.rank]
    kept: list[int] = []
    reasons: Counter[str] = Counter()
    whole, photons = True, 0.0
    for first in range(0, len(mine), _AT_ONCE):
        rows = mine[first : first + _AT_ONCE]
        d = shots.read(rows)[:, pixels.index]
        finite = np.isfinite(d).all(axis=1)
        total = np.where(finite, d.sum(axis=1), 0)
        reasons["damaged or with values that are no numbers"] += int((~finite).sum())
        reasons["without photons"] += int((finite & (total <= 0)).sum())
        good = finite & (total > 0)
        kept += rows[good].tolist()
        whole = whole and bool((d[good] == np.rint(d[good])).all())
        photons += float(total[good].sum(dtype=np.float64))
    gathered = comm.allgather((kept, dict(reasons), whole, photons))
    everyone = np.array(sorted(index for part in gathered for index in part[0]), dtype=np.int64)
    for part in gathered[: comm.rank] + gathered[comm.rank + 1 :]:
        reasons.update(part[1])
    counts = all(part[2] for part in gathered)
    few = sum(part[3] for part in gathered) < max(len(everyone), 1) * len(pixels)
    return Usable(everyone, dict(sorted(reasons.items())), "poisson" if counts and few else "distance")


def read_pixels(shots: SpiShots, pixels: Pixels, used: IntArray, rows: IntArray) -> Float32Array:
    """Photons of some of the shots that are used, in the pixels that are, shape (rows, pixels)."""
    numbers = used[rows]
    parts = [shots.read(numbers[i : i + _AT_ONCE])[:, pixels.index] for i in range(0, len(numbers), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros((0, len(pixels)), dtype=np.float32)
