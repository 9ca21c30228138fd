"""One generation: merge the images in their orientations, compare the halves, find orientations anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exafel.arrays import Float32Array, FloatArray
from exafel.spi.alignment import align_intensities
from exafel.spi.assigning import assign
from exafel.spi.finishing import phase_model
from exafel.spi.fsc import Curve
from exafel.spi.phasing import autocorrelation
from exafel.spi.rotations import about_z, angle_deg, multiply, random_quaternions
from exafel.spi.solving import merge
from exafel.spi.stage import Stage
from exafel.spi.state import Assignments, State

_HALF_TURN = about_z(np.pi)  # at low resolution an image cannot be told from itself turned about the beam
_RESEED, _PHASES = 12, 13  # streams of random numbers, each by generation


@dataclass(eq=False)
class Seconds:
    """Wall seconds of a generation by stage."""

    of: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.of[name] = round(self.of.get(name, 0.0) + time.perf_counter() - start, 4)


class Generations:
    """Does generations at one resolution.

    Parameters
    ----------
    stage
        Its images, and who works on them.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def run(self, state: State) -> State:
        """Do one generation; the state's history has its record."""
        seconds = Seconds()
        config, number = self.stage.config, state.generation
        before = self._reseeded(state.assignments, number)
        with seconds.stage("merge"):
            merged = merge(self.stage, before, state.models, number)
        models = merged.models
        if config.model == "phased":
            with seconds.stage("phase"):
                models = self._phased(models, number)
        with seconds.stage("test"):
            turn, curve = self.compare_halves(models, state.turn)
        with seconds.stage("match"):
            after = assign(self.stage, before, models, number, state.age)
        moved = angle_deg(before.best, after.best, self.stage.symmetry)
        turned = angle_deg(multiply(_HALF_TURN, before.best), after.best, self.stage.symmetry)
        record: dict[str, Any] = {
            "generation": number,
            "start": state.start,
            "d_angstrom": round(self.stage.cube.d_min_angstrom, 4),
            "m": self.stage.cube.m,
            "local": state.age >= config.matching.local_from,
            "median_move_deg": round(float(np.median(np.minimum(moved, turned))), 5),
            "mean_score": float(after.score.mean()),
            "class_fractions": _fractions(after, config.classes),
            "lambdas": merged.lambdas,
            "cg_steps": merged.steps,
            "dropped_solutions": merged.dropped,
            "half_correlation": None if curve is None else np.round(curve.value, 5).tolist(),
            "half_s": None if curve is None else np.round(curve.s, 6).tolist(),
            "half_d_angstrom": None if curve is None else curve.resolution(config.marching.correlation),
            "allreduce_bytes_a_model": merged.bytes_a_model,
            "seconds": seconds.of,
        }
        return state.with_(
            assignments=after,
            models=models,
            turn=turn,
            generation=number + 1,
            age=state.age + 1,
            stage_generation=state.stage_generation + 1,
            history=(*state.history, record),
        )

    def _reseeded(self, a: Assignments, generation: int) -> Assignments:
        """Give a class that has nearly died out in a half half of the largest class, in random orientations."""
        stage = self.stage
        n = stage.config.classes
        if n == 1:
            return a
        rng = np.random.default_rng([stage.config.seed, _RESEED, generation])
        half = np.zeros(len(a.score), dtype=np.int64)
        for block in stage.images.blocks:
            half[block.rows] = block.half
        for which in range(stage.n_halves):
            counts = np.bincount(a.best_class[half == which], minlength=n)
            for kind in np.flatnonzero(counts < 0.02 * counts.sum()):
                donors = np.flatnonzero((half == which) & (a.best_class == int(np.argmax(counts))))
                moved = rng.permutation(donors)[: len(donors) // 2]
                a = a.moved(moved, int(kind), random_quaternions(len(moved), rng))
        return a

    def _phased(self, models: Float32Array, generation: int) -> Float32Array:
        """Autocorrelations of phased densities, which are positive and compact."""
        stage = self.stage
        result = np.empty_like(models)
        for number, a in enumerate(models):
            rng = np.random.default_rng([stage.config.seed, _PHASES, generation, number])
            found = phase_model(a, stage.cube, stage.config, stage.backend, rng)
            result[number] = stage.backend.host(autocorrelation(found.density, stage.cube, stage.backend))
        return result

    def compare_halves(self, models: Float32Array, turn: FloatArray | None) -> tuple[FloatArray | None, Curve | None]:
        """Bring the second half onto the first, and correlate their intensities by sphere, in the mean over classes.

        With several classes, each of the first half goes with the one of the second that is most like it.
        """
        stage, n = self.stage, self.stage.config.classes
        if stage.n_halves == 1:
            return None, None
        turns, curves = [], []
        for kind in range(n):
            first = stage.backend.array(models[kind])
            tried = []
            for other in range(n):
                near = None if turn is None or turn[kind, 4] != other else turn[kind, :4]
                second = stage.backend.array(models[n + other])
                tried.append(
                    align_intensities(first, second, stage.cube, stage.config.diameter_angstrom, stage.backend, near)
                )
            best = int(np.argmax([item.correlation for item in tried]))
            turns.append([*tried[best].quaternion, best])
            curves.append(tried[best].curve)
        mean = np.mean([curve.value for curve in curves], axis=0)
        known = min(float(np.mean(curve.value)) for curve in curves) > 0.5
        return (np.array(turns) if known else None), Curve(curves[0].s, mean)


def _fractions(a: Assignments, n_classes: int) -> list[float]:
    return [round(float(x), 5) for x in np.bincount(a.best_class, minlength=n_classes) / len(a.score)]
