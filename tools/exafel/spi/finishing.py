"""The end of a reconstruction: halves brought together, phases from several starts, and the honest resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from exafel.arrays import AnyArray, Float32Array, FloatArray
from exafel.config.spi import PhasingConfig, SpiReconstructConfig
from exafel.spi.alignment import align_intensities, place_density
from exafel.spi.backend import Backend
from exafel.spi.fsc import Curve, fsc, prtf
from exafel.spi.grids import Cube
from exafel.spi.phasing import Amplitudes, Pass, Phased, Phaser, PhasingOptions, best_of
from exafel.spi.rotations import conjugate, multiply, point_group
from exafel.spi.solving import merge
from exafel.spi.stage import Stage
from exafel.spi.state import Assignments, State

_STARTS = 14
_JUNG = (3 / 8) ** 0.5  # what is nowhere wider than D fits into a ball of this radius times D (Jung 1901), not of D / 2
_ENDED = 1.1
"""R-factor, relative to the best, up to which a start found what the best one found; others were caught elsewhere."""
_IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def phasing_options(config: PhasingConfig, cube: Cube, symmetry: str) -> PhasingOptions:
    """Options of a configuration: the search, cut by shrinkwraps, and error reduction at the end."""
    cuts = np.array_split(np.arange(config.iterations), config.shrinkwraps + 1)
    last = len(cuts) - 1
    search = [Pass(config.algorithm, len(part), number < last) for number, part in enumerate(cuts) if len(part)]
    volume = config.volume_angstrom3
    return PhasingOptions(
        (*search, Pass("er", config.er_iterations)),
        config.beta,
        config.shrinkwrap_sigma_voxels,
        config.shrinkwrap_threshold,
        config.positive,
        None if volume is None else max(1, round(volume / cube.voxel_angstrom**3)),
        point_group(symmetry) if config.symmetric and symmetry != "C1" else None,
    )


def phase_model(
    a: AnyArray, cube: Cube, config: SpiReconstructConfig, backend: Backend, rng: np.random.Generator
) -> Phased:
    """Find phases of one autocorrelation from a random start; arrays of the result are on the device."""
    limit = cube.ball(_JUNG * config.diameter_angstrom)
    amplitudes = Amplitudes.of_autocorrelation(backend.array(a), cube, backend, config.phasing.edge_weight)
    return Phaser(amplitudes, limit, cube, phasing_options(config.phasing, cube, config.symmetry), backend).run(
        None, None, rng
    )


@dataclass(frozen=True, eq=False)
class FinalMap:
    """One class at the end.

    Parameters
    ----------
    density
        Mean over the starts that came to an end, the best of them where few are asked for; shape (m, m, m).
    autocorrelation
        Of all images of the class, shape (m, m, m).
    fsc_half
        Between the halves' densities, phased on their own; None without halves.
    prtf
        Between these starts; None where there is one.
    starts
        Their number.
    r_factor
        Of the best start.
    likeness
        Largest correlation of intensities on spheres with another class's, when aligned; None where there is one class.
    """

    density: Float32Array
    autocorrelation: Float32Array
    fsc_half: Curve | None
    prtf: Curve | None
    starts: int
    r_factor: float
    likeness: float | None


@dataclass(frozen=True, eq=False)
class Finished:
    """Maps by class, and all images' places in one frame."""

    maps: list[FinalMap]
    assignments: Assignments


def finish(stage: Stage, state: State) -> Finished:
    """Bring halves together, merge all images, phase, and test; all ranks get the result.

    Parameters
    ----------
    stage
        The last resolution's images.
    state
        After the last generation.
    """
    config, cube, backend = stage.config, stage.cube, stage.backend
    assert state.models is not None
    joined = _joined(stage, state)
    merged = merge(stage.joined(), joined, None, state.generation).models
    n, starts = config.classes, config.phasing.starts
    tasks = [(merged[kind], (0, kind, start)) for kind in range(n) for start in range(starts)]
    if stage.n_halves == 2:
        halves = [(half, kind) for half in range(2) for kind in range(n)]
        tasks += [(state.models[h * n + kind], (1 + h, kind, start)) for h, kind in halves for start in range(starts)]
    phased: dict[tuple[int, int], list[Phased]] = {}
    for (_, (part, kind, _)), found in zip(tasks, stage.workers.each(_phased, stage, tasks), strict=True):
        phased.setdefault((part, kind), []).append(found)
    maps = []
    for kind in range(n):
        own = sorted(phased[0, kind], key=lambda item: item.r_factor)
        best = own[0].r_factor
        ended = [item for item in own if item.r_factor <= _ENDED * best][: config.phasing.averaged]
        density, transfer = _mean_of_starts(ended, cube, backend)
        fsc_half = _half_fsc(phased, state, kind, cube, backend) if stage.n_halves == 2 else None
        likeness = _likeness(stage, merged, kind)
        maps.append(FinalMap(density, merged[kind], fsc_half, transfer, len(ended), best, likeness))
    return Finished(maps, joined)


def _likeness(stage: Stage, merged: Float32Array, kind: int) -> float | None:
    own, backend = stage.backend.array(merged[kind]), stage.backend
    diameter = stage.config.diameter_angstrom
    found = [
        align_intensities(own, backend.array(other), stage.cube, diameter, backend).correlation
        for number, other in enumerate(merged)
        if number != kind
    ]
    return max(found, default=None)


def _joined(stage: Stage, state: State) -> Assignments:
    """Orientations and classes of the second half in the first's frame."""
    a, n = state.assignments, stage.config.classes
    if stage.n_halves == 1:
        return a
    turn = state.turn if state.turn is not None else np.array([[*_IDENTITY, kind] for kind in range(n)])
    q, classes = a.quaternions.copy(), a.classes.copy()
    for block in stage.images.blocks:
        if block.half == 1:
            for kind, row in enumerate(turn):
                mine = a.classes[block.rows] == int(row[4])
                q[block.rows] = np.where(
                    mine[..., None], multiply(a.quaternions[block.rows], conjugate(row[:4])), q[block.rows]
                )
                classes[block.rows] = np.where(mine, kind, classes[block.rows])
    return Assignments(q, a.weights, classes, a.score, a.scale)


def _phased(stage: Stage, task: tuple[Float32Array, tuple[int, int, int]]) -> Phased:
    (a, key), backend = task, stage.backend
    found = phase_model(a, stage.cube, stage.config, backend, np.random.default_rng([stage.config.seed, _STARTS, *key]))
    return Phased(backend.host(found.density), backend.host(found.support), found.r_factor)


def _mean_of_starts(own: Sequence[Phased], cube: Cube, backend: Backend) -> tuple[Float32Array, Curve | None]:
    """Mean of the densities of several starts on the best one, and the transfer of phases between them."""
    best = best_of(own)
    first = scipy.fft.rfftn(np.fft.ifftshift(best.density))
    placed = [
        first if item is best else place_density(first, item.density, _IDENTITY, cube, backend).transform
        for item in own
    ]
    mean = np.fft.fftshift(scipy.fft.irfftn(np.mean(placed, axis=0), s=(cube.m,) * 3)).astype(np.float32)
    return mean, prtf(placed, cube) if len(placed) > 1 else None


def _half_fsc(
    phased: dict[tuple[int, int], list[Phased]], state: State, kind: int, cube: Cube, backend: Backend
) -> Curve:
    row: FloatArray = state.turn[kind] if state.turn is not None else np.array([*_IDENTITY, kind])
    first, second = best_of(phased[1, kind]).density, best_of(phased[2, int(row[4])]).density
    transform = scipy.fft.rfftn(np.fft.ifftshift(first))
    return fsc(transform, place_density(transform, second, row[:4], cube, backend).transform, cube)
