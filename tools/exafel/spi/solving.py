"""From all images in their orientations to the autocorrelation of every model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray, IntArray
from exafel.spi.blocks import Block
from exafel.spi.merging import NormalEquations, NormalSums, Solution, Units, add_images, solve_path
from exafel.spi.slicing import batches, slices
from exafel.spi.stage import Stage
from exafel.spi.state import Assignments
from exafel.spi.symmetry import symmetrised
from exafel.spi.workers import ordered_sum


@dataclass(frozen=True, eq=False)
class Merged:
    """Models, shape (models, m, m, m), with λ and steps of each, and the bytes of the sums of one, for all ranks."""

    models: Float32Array
    lambdas: list[float]
    steps: list[int]
    dropped: int
    bytes_a_model: int


def merge(stage: Stage, a: Assignments, start: Float32Array | None, generation: int) -> Merged:
    """Merge all images, and solve for all models.

    Parameters
    ----------
    a
        Orientations and classes of all images.
    start
        Models of the last generation, where conjugate gradients begin; those of another resolution are not used.
    generation
        Its number: which images are held out.
    """
    units = _units(stage, a, generation)
    totals = stage.workers.total(_sums, stage, a, units, generation)
    same = start is not None and start.shape[-1] == stage.cube.m
    equations = [
        (total, unit, start[model] if start is not None and same else None)
        for model, (total, unit) in enumerate(zip(totals, units, strict=True))
    ]
    solved = stage.workers.each(_solve, stage, equations)
    chosen = _cross_validate(stage, solved, a, generation)
    models = np.stack([item.a for item in chosen])
    if len(stage.symmetry) > 1:
        models = np.stack([symmetrised(model, stage.cube, stage.symmetry, stage.backend) for model in models])
    dropped = stage.n_models * len(stage.config.merging.regularisation) - sum(len(item) for item in solved)
    return Merged(models, [x.lam for x in chosen], [x.steps for x in chosen], dropped, totals[0].nbytes)


def _solve(stage: Stage, equations: tuple[NormalSums, Units, Float32Array | None]) -> list[Solution]:
    total, unit, start = equations
    options, backend = stage.config.merging, stage.backend
    normal = NormalEquations.of(total, unit, stage.cube, stage.support, backend)
    begin = None if start is None else backend.array(start)
    solutions = solve_path(normal, options.regularisation, begin, options.steps, options.tolerance)
    return [Solution(backend.host(item.a), item.lam, item.steps, item.residual) for item in solutions]


def _held_out(stage: Stage, rows: IntArray, generation: int) -> BoolArray:
    """Images that a generation does not merge, where there is a λ to choose by them."""
    options = stage.config.merging
    if len(options.regularisation) == 1:
        return np.zeros(len(rows), dtype=bool)
    mixed = rows * 2654435761 % 4294967296 // 65536  # Knuth's multiplicative hash
    return np.asarray((mixed + generation) % options.held_out == 0)


def _sums(stage: Stage, a: Assignments, units: list[Units], generation: int) -> list[NormalSums]:
    """Sums of every model over the blocks that are held here."""
    backend = stage.backend
    sums = [NormalSums.empty(stage.cube) for _ in range(stage.n_models)]
    for block in stage.images.own:
        used = ~_held_out(stage, block.rows, generation)
        for kind in range(stage.config.classes):
            model = stage.model_of(block, kind)
            wanted = (a.classes[block.rows] == kind) & (a.weights[block.rows] > 0) & used[:, None]
            image, k = np.nonzero(wanted)
            if not len(image):
                continue
            rows = block.rows[image]
            q, share, d = _together(stage, a, block, image, k)
            scale = _per_view(share, a.weights[rows, k] * a.scale[rows], len(q))
            for part in batches(len(q), len(stage.pixels)):
                own = backend.array(scale[part])[:, None]
                weight = own * stage.merge_weight
                add_images(sums[model], units[model], d[part] / own, weight, q[part], stage.cube, stage.pixels, backend)
    return sums


def _together(
    stage: Stage, a: Assignments, block: Block, image: IntArray, k: IntArray
) -> tuple[FloatArray, IntArray, AnyArray]:
    """Put together what is seen in the same orientation: the weighted sum of images is one image more exactly seen.

    The transform's cost is then that of the references, however many of them an image has (the M step of Loh & Elser
    2009, Phys. Rev. E 80, 026705).

    Returns
    -------
    orientations
        Shape (views, 4).
    view
        Number of the view of each image and orientation, shape (n,).
    photons
        Sum over images of weight times photons, shape (views, pixels), on the device.
    """
    backend, photons = stage.backend, stage.photons[block.number]
    rows = block.rows[image]
    if a.weights.shape[1] == 1:
        return a.quaternions[rows, k], np.arange(len(rows)), photons[image]
    q, view = np.unique(a.quaternions[rows, k], axis=0, return_inverse=True)
    view = view.reshape(-1)
    table = np.zeros((len(q), len(block.rows)), dtype=np.float32)
    np.add.at(table, (view, image), a.weights[rows, k])
    return q, view, backend.array(table) @ photons


def _per_view(view: IntArray, value: FloatArray, n: int) -> FloatArray:
    return np.bincount(view, weights=value, minlength=n).astype(np.float64)


def _units(stage: Stage, a: Assignments, generation: int) -> list[Units]:
    """Sums of weights and of weighted data of every model over all images: bounds of what the sums can be."""
    table = ordered_sum(stage.workers.gather(_units_of_blocks, stage, a, generation))
    return [Units(max(float(w), 1e-20), max(float(data), 1e-20)) for w, data in table]


def _units_of_blocks(stage: Stage, a: Assignments, generation: int) -> dict[int, FloatArray]:
    of_pixels = float(stage.merge_weight.sum(dtype=np.float64))
    parts = {}
    for block in stage.images.own:
        weighted = (stage.photons[block.number] * stage.merge_weight).sum(axis=1, dtype=np.float64)
        data, used = stage.backend.host(weighted), ~_held_out(stage, block.rows, generation)
        table = np.zeros((stage.n_models, 2))
        for kind in range(stage.config.classes):
            share = (a.weights[block.rows] * (a.classes[block.rows] == kind)).sum(axis=1) * used
            table[stage.model_of(block, kind)] = (share @ a.scale[block.rows]) * of_pixels, share @ data
        parts[block.number] = table
    return parts


def _cross_validate(stage: Stage, solved: list[list[Solution]], a: Assignments, generation: int) -> list[Solution]:
    """Of each model's solutions, the one that images that were held out fit best."""
    if max(len(item) for item in solved) == 1:
        return [item[0] for item in solved]
    misfit = ordered_sum(stage.workers.gather(_misfits, stage, solved, a, generation))
    return [item[int(np.argmin(row[: len(item)]))] for item, row in zip(solved, misfit, strict=True)]


def _misfits(stage: Stage, solved: list[list[Solution]], a: Assignments, generation: int) -> dict[int, FloatArray]:
    return {block.number: _misfits_of(stage, block, solved, a, generation) for block in stage.images.own}


def _misfits_of(
    stage: Stage, block: Block, solved: list[list[Solution]], a: Assignments, generation: int
) -> FloatArray:
    backend = stage.backend
    result = np.zeros((stage.n_models, max(len(item) for item in solved)))
    out = np.flatnonzero(_held_out(stage, block.rows, generation))
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
