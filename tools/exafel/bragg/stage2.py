"""Stage 2: the likelihood of all pixels of all shots as a function of the structure factors.

Only ln F of every reflection is a parameter. The best scale of a shot for given F is found within each evaluation, by
Newton's method on the pixels of that shot alone; at it the derivative by the scale is zero, so the gradient by ln F is
that of the likelihood with scales free (variable projection; Golub & Pereyra 2003, Inverse Problems 19, R1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from exafel.arrays import FloatArray
from exafel.bragg.packed import PackedShots, join_shots
from exafel.bragg.reflection_set import ReflectionSet
from exafel.bragg.stage2_shots import CompactShot

SHOT_NUMBERS = 3
PIXEL_SUMS = 2 * (SHOT_NUMBERS + 1)
_BLOCK = 256
_NOTHING = np.empty(0)


class Evaluator(Protocol):
    """Computes shots somewhere; `exafel._kernels.Stage2Shots` does on the host."""

    def evaluate(
        self,
        f_squared: FloatArray,
        noise: float,
        refine_scale: bool,
        log_scale: FloatArray,
        numbers: FloatArray,
        gradient: FloatArray,
        curvature: FloatArray,
        threads: int,
    ) -> None:
        """Fill likelihood, sum of Z^2 and of bounded Z^2 by shot; add derivatives to arrays that are not empty."""
        ...


@dataclass(frozen=True, eq=False)
class PixelSums:
    """Sums over pixels.

    Parameters
    ----------
    values
        Likelihood, sum of Z^2, sum of bounded Z^2 (see `LARGEST_Z2`), and number of pixels, shape (4,).
    """

    values: FloatArray

    def add(self, shots: FloatArray, n_pixels: int) -> None:
        """Add the numbers of shots, shape (n, 3), that have so many pixels."""
        self.values[:SHOT_NUMBERS] += shots.sum(axis=0)
        self.values[SHOT_NUMBERS] += n_pixels

    @property
    def n(self) -> int:
        """Number of pixels."""
        return int(self.values[3])

    @property
    def likelihood(self) -> float:
        """For a pixel."""
        return float(self.values[0] / self.values[3])

    @property
    def bounded_likelihood(self) -> float:
        """For a pixel, with bounded Z^2: pixels that no amplitude explains count the same wherever it is."""
        return float((self.values[0] - 0.5 * (self.values[1] - self.values[2])) / self.values[3])

    @property
    def sigma_z(self) -> float:
        """Root mean square of Z: its standard deviation where its mean is zero, as that of a refined model is."""
        return float(np.sqrt(self.values[1] / self.values[3])) if self.values[3] else float("nan")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over a rank's shots.

    Parameters
    ----------
    numbers
        Of fitted pixels, then of those held out: the values of `PixelSums`, shape (8,).
    gradient, curvature
        By ln F, shape (n,); `curvature` is empty unless it was asked for.
    """

    numbers: FloatArray
    gradient: FloatArray
    curvature: FloatArray

    @property
    def fitted(self) -> PixelSums:
        """Of fitted pixels, a view."""
        return PixelSums(self.numbers[:4])

    @property
    def held_out(self) -> PixelSums:
        """Of pixels held out, a view."""
        return PixelSums(self.numbers[4:])


@dataclass(eq=False)
class _Block:
    fitted: PackedShots
    held_out: PackedShots
    where: slice
    evaluators: tuple[Evaluator, Evaluator]


@dataclass(eq=False)
class Stage2Shots:
    """A rank's shots, in the order in which they were added.

    Parameters
    ----------
    reflections
        What is refined.
    noise
        Variance of the read-out noise, photons squared.
    held_out, seed
        Part of the pixels held out, and the seed of their choice.
    budget_bytes
        Memory for packed shots; those past it stay compact and are packed anew in every evaluation.
    make_evaluator
        Makes what computes a block of shots; None: the host's compiled kernel.
    """

    reflections: ReflectionSet
    noise: float
    held_out: float
    seed: int
    budget_bytes: float
    make_evaluator: Callable[[PackedShots], Evaluator] | None = None
    threads: int = 1
    numbers: list[int] = field(default_factory=list)
    log_scale: FloatArray = field(default_factory=lambda: np.empty(0))
    n_terms: int = 0
    packed_bytes: int = 0
    compact_bytes: int = 0
    _blocks: list[_Block] = field(default_factory=list)
    _compact: list[tuple[int, CompactShot]] = field(default_factory=list)

    def add(self, shots: Sequence[CompactShot]) -> None:
        """Add shots; their scales start at 1 in the units of their coefficients."""
        for first in range(0, len(shots), _BLOCK):
            self._add_block(shots[first : first + _BLOCK])

    def _add_block(self, shots: Sequence[CompactShot]) -> None:
        start = len(self.numbers)
        self.numbers += [shot.number for shot in shots]
        self.log_scale = np.concatenate([self.log_scale, np.zeros(len(shots))])
        pairs = [shot.pack(self.reflections, self.held_out, self.seed) for shot in shots]
        self.n_terms += sum(fitted.n_terms for fitted, _ in pairs)
        size = sum(fitted.n_bytes + out.n_bytes for fitted, out in pairs)
        if self.packed_bytes + size > self.budget_bytes:
            self._compact += [(start + i, shot) for i, shot in enumerate(shots)]
            self.compact_bytes += sum(shot.n_bytes for shot in shots)
            return
        self.packed_bytes += size
        fitted, out = join_shots([pair[0] for pair in pairs]), join_shots([pair[1] for pair in pairs])
        where = slice(start, start + len(shots))
        self._blocks.append(_Block(fitted, out, where, (self._evaluator(fitted), self._evaluator(out))))

    def _evaluator(self, shots: PackedShots) -> Evaluator:
        if self.make_evaluator is None:
            return shots.host
        return self.make_evaluator(shots)

    @property
    def n_recomputed(self) -> int:
        """Shots that are packed anew in every evaluation."""
        return len(self._compact)

    def counts(self) -> FloatArray:
        """Number of this rank's shots that have each reflection, shape (n,)."""
        total = np.zeros(len(self.reflections))
        for block in self._blocks:
            total += np.bincount(block.fitted.reflection, minlength=len(total))
        for _, shot in self._compact:
            fitted, _ = shot.pack(self.reflections, self.held_out, self.seed)
            total += np.bincount(fitted.reflection, minlength=len(total))
        return total

    def evaluate(self, amplitude: FloatArray, *, curvature: bool = False) -> Sums:
        """Sum over all shots at amplitudes (n,), with each shot's scale at its best for them."""
        f_squared = amplitude**2
        sums = Sums(np.zeros(PIXEL_SUMS), np.zeros(len(amplitude)), np.zeros(len(amplitude) if curvature else 0))
        for block in self._blocks:
            self._evaluate(block, f_squared, sums)
        for position, shot in self._compact:
            fitted, out = (join_shots([part]) for part in shot.pack(self.reflections, self.held_out, self.seed))
            where = slice(position, position + 1)
            block = _Block(fitted, out, where, (self._evaluator(fitted), self._evaluator(out)))
            self._evaluate(block, f_squared, sums)
        return sums

    def _evaluate(self, block: _Block, f_squared: FloatArray, sums: Sums) -> None:
        scales = self.log_scale[block.where]  # a view: refined in place
        numbers = np.zeros((len(scales), SHOT_NUMBERS))
        fitted, out = block.evaluators
        fitted.evaluate(f_squared, self.noise, True, scales, numbers, sums.gradient, sums.curvature, self.threads)
        sums.fitted.add(numbers, len(block.fitted.data))
        out.evaluate(f_squared, self.noise, False, scales, numbers, _NOTHING, _NOTHING, self.threads)
        sums.held_out.add(numbers, len(block.held_out.data))
