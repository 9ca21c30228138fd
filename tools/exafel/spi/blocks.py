"""Images in blocks: the unit that ranks share, so that no result depends on how many ranks there are.

A block's images, their order and all that is computed from them are the same whoever holds it; what is summed over
blocks is summed in the order of blocks, or as integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from exafel.arrays import AnyArray, Float32Array, IntArray
from exafel.errors import NothingUsableError

_STREAM_ORDER = 7


@dataclass(frozen=True, eq=False)
class Block:
    """Some images of one half.

    Parameters
    ----------
    half
        0 or 1.
    rows
        Numbers of its images among all that are used, shape (n,).
    """

    number: int
    half: int
    rows: IntArray


def share_out(n: int, n_halves: int, block_images: int, seed: int) -> list[Block]:
    """Part images, in an order drawn from the seed, into halves, and each half into blocks of nearly equal size."""
    order = np.random.default_rng([seed, _STREAM_ORDER]).permutation(n)
    blocks: list[Block] = []
    for half in range(n_halves):
        own = np.sort(order[half::n_halves])
        for rows in np.array_split(own, -(-len(own) // block_images)):
            blocks.append(Block(len(blocks), half, rows.astype(np.int64)))
    return blocks


class Images:
    """The photons of some blocks, up to the highest resolution that will be used.

    Parameters
    ----------
    blocks
        All blocks of the reconstruction.
    read
        Reads images by their numbers, shape (n, pixels).
    numbers
        Of the blocks that are held here.
    """

    def __init__(
        self, blocks: Sequence[Block], read: Callable[[IntArray], Float32Array], numbers: Sequence[int]
    ) -> None:
        self.blocks = tuple(blocks)
        self.own = tuple(blocks[number] for number in numbers)
        self._photons = {block.number: read(block.rows) for block in self.own}

    def joined(self) -> Images:
        """The same images as one half."""
        other = copy(self)
        other.blocks = tuple(replace(block, half=0) for block in self.blocks)
        other.own = tuple(replace(block, half=0) for block in self.own)
        return other

    def photons(self, block: Block, columns: AnyArray) -> Float32Array:
        """Some pixels of a block's images, shape (n, columns)."""
        return np.ascontiguousarray(self._photons[block.number][:, columns])


def require_enough(n: int, least: int, reasons: Mapping[str, int]) -> None:
    """Say what is missing where there are too few images.

    Raises
    ------
    NothingUsableError
        There are fewer than `least`.
    """
    if n < least:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count) or "no others were given"
        raise NothingUsableError(
            f"{n} usable images are too few for a reconstruction, which needs {least} ({why})",
            hint="give more images, or lower spi_reconstruct.min_images",
        )
