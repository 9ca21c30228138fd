"""From the images of all ranks in their orientations to the autocorrelation of every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import BoolArray, Float32Array, FloatArray, IntArray
from exafel.spi.blocks import Block
from exafel.spi.merging import NormalEquations, NormalSums, Solution, Units, add_images, solve_path
from exafel.spi.slicing import slices
from exafel.spi.stage import Stage
from exafel.spi.state import Assignments
from exafel.spi.symmetry import symmetrised


@dataclass(frozen=True, eq=False)
class Merged:
    """Models, shape (models, m, m, m), with λ and steps of each, and the bytes that a rank gave to the sum of one."""

    models: Float32Array
    lambdas: list[float]
    steps: list[int]
    dropped: int
    bytes_a_model: int


class Merger:
    """Merges at one resolution.

    Parameters
    ----------
    stage
        Its images.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._options = stage.config.merging
        self._support = stage.cube.ball(stage.config.diameter_angstrom)

    def merge(self, a: Assignments, start: Float32Array | None, generation: int) -> Merged:
        """Solve for all models.

        Parameters
        ----------
        a
            Orientations and classes of all images.
        start
            Models of the last generation, where conjugate gradients begin; those of another resolution are not used.
        generation
            Its number: which images are held out.
        """
        stage, comm = self._stage, self._stage.images.comm
        solved: dict[int, list[Solution]] = {}
        sums, units = self._sums(a, generation)
        for model, (own, unit) in enumerate(zip(sums, units, strict=True)):
            total = own.summed(comm)
            if model % comm.size == comm.rank:
                same = start is not None and start.shape[-1] == stage.cube.m
                solved[model] = self._solve(total, unit, start[model] if start is not None and same else None)
        everything = {key: value for part in comm.allgather(solved) for key, value in part.items()}
        chosen = self._cross_validate(everything, a, generation)
        models = np.stack([item.a for item in chosen])
        if len(stage.symmetry) > 1:
            models = np.stack([symmetrised(model, stage.cube, stage.symmetry, stage.backend) for model in models])
        n_asked = stage.n_models * len(self._options.regularisation)
        dropped = n_asked - sum(len(item) for item in everything.values())
        return Merged(models, [x.lam for x in chosen], [x.steps for x in chosen], dropped, sums[0].nbytes)

    def _solve(self, total: NormalSums, unit: Units, start: Float32Array | None) -> list[Solution]:
        stage, options = self._stage, self._options
        equations = NormalEquations.of(total, unit, stage.cube, self._support, stage.backend)
        begin = None if start is None else stage.backend.array(start)
        solutions = solve_path(equations, options.regularisation, begin, options.steps, options.tolerance)
        return [Solution(stage.backend.host(item.a), item.lam, item.steps, item.residual) for item in solutions]

    def _held_out(self, rows: IntArray, generation: int) -> BoolArray:
        """Images that a generation does not merge, where there is a λ to choose by them."""
        if len(self._options.regularisation) == 1:
            return np.zeros(len(rows), dtype=bool)
        mixed = rows * 2654435761 % 4294967296 // 65536  # Knuth's multiplicative hash
        return np.asarray((mixed + generation) % self._options.held_out == 0)

    def _sums(self, a: Assignments, generation: int) -> tuple[list[NormalSums], list[Units]]:
        stage, backend = self._stage, self._stage.backend
        sums = [NormalSums.empty(stage.cube) for _ in range(stage.n_models)]
        units = self._units(a, generation)
        for block in stage.images.own:
            used = ~self._held_out(block.rows, generation)
            for kind in range(stage.config.classes):
                model = stage.model_of(block, kind)
                wanted = (a.classes[block.rows] == kind) & (a.weights[block.rows] > 0) & used[:, None]
                image, k = np.nonzero(wanted)
                if not len(image):
                    continue
                rows = block.rows[image]
                d = stage.photons[block.number][image] / backend.array(a.scale[rows])[:, None]
                weight = backend.array(a.weights[rows, k] * a.scale[rows])[:, None] * stage.merge_weight
                q = a.quaternions[rows, k]
                add_images(sums[model], units[model], d, weight, q, stage.cube, stage.pixels, backend)
        return sums, units

    def _units(self, a: Assignments, generation: int) -> list[Units]:
        """Sums of weights and of weighted data of every model over all images: bounds of what the sums can be."""
        stage = self._stage
        of_pixels = float(stage.merge_weight.sum(dtype=np.float64))
        parts = {}
        for block in stage.images.own:
            weighted = (stage.photons[block.number] * stage.merge_weight).sum(axis=1, dtype=np.float64)
            data, used = stage.backend.host(weighted), ~self._held_out(block.rows, generation)
            table = np.zeros((stage.n_models, 2))
            for kind in range(stage.config.classes):
                share = (a.weights[block.rows] * (a.classes[block.rows] == kind)).sum(axis=1) * used
                table[stage.model_of(block, kind)] = (share @ a.scale[block.rows]) * of_pixels, share @ data
            parts[block.number] = table
        return [Units(max(float(w), 1e-20), max(float(data), 1e-20)) for w, data in stage.images.ordered_sum(parts)]

    def _cross_validate(self, solved: dict[int, list[Solution]], a: Assignments, generation: int) -> list[Solution]:
        """Of each model's solutions, the one that images that were held out fit best."""
        stage = self._stage
        most = max(len(item) for item in solved.values())
        if most == 1:
            return [solved[model][0] for model in range(stage.n_models)]
        parts = {block.number: self._misfits(block, solved, a, generation, most) for block in stage.images.own}
        misfit = stage.images.ordered_sum(parts)
        return [solved[i][int(np.argmin(misfit[i, : len(solved[i])]))] for i in range(stage.n_models)]

    def _misfits(
        self, block: Block, solved: dict[int, list[Solution]], a: Assignments, generation: int, most: int
    ) -> FloatArray:
        stage, backend = self._stage, self._stage.backend
        result = np.zeros((stage.n_models, most))
        out = np.flatnonzero(self._held_out(block.rows, generation))
        for kind in range(stage.config.classes):
            model = stage.model_of(block, kind)
            chosen = out[a.best_class[block.rows[out]] == kind]
            if not len(chosen):
                continue
            rows = block.rows[chosen]
            d = stage.photons[block.number][chosen] / backend.array(a.scale[rows])[:, None]
            for index, item in enumerate(solved[model]):
                view = slices([backend.array(item.a)], a.best[rows], stage.cube, stage.pixels, backend)[0]
                result[model, index] = float((stage.merge_weight * (view - d) ** 2).sum(dtype=np.float64))
        return result
