"""Frequency marching: generation after generation, from low resolution to high, as far as the halves agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exafel.config.spi import SpiReconstructConfig
from exafel.spi.assigning import start_scales
from exafel.spi.backend import backend_of
from exafel.spi.blocks import Images
from exafel.spi.generation import Generations
from exafel.spi.grids import Pixels
from exafel.spi.matching import Score
from exafel.spi.stage import Stage, StageSettings
from exafel.spi.starts import better_start
from exafel.spi.state import Assignments, State
from exafel.spi.workers import Workers

_START = 10


def resolutions(config: SpiReconstructConfig) -> list[float]:
    """Resolutions of the stages in angstrom: equal ratios, none larger than ``marching.step``."""
    first, last = config.marching.d_start_angstrom or config.diameter_angstrom / 12, config.d_min_angstrom
    if last >= first:
        return [last]
    n = int(np.ceil(np.log(first / last) / np.log(config.marching.step) - 1e-9))
    return [float(first * (last / first) ** (i / n)) for i in range(n + 1)]


class March:
    """A reconstruction on its way.

    Parameters
    ----------
    images
        Those that are held here.
    pixels
        Pixels that they hold.
    score
        How they are compared.
    workers
        Those that hold all images.
    """

    def __init__(
        self, config: SpiReconstructConfig, images: Images, pixels: Pixels, score: Score, workers: Workers
    ) -> None:
        self._config, self._images, self._pixels, self._score, self._workers = config, images, pixels, score, workers
        self._backend = backend_of(config.backend, config.threads)
        self._resolutions = resolutions(config)
        self._n = sum(len(block.rows) for block in images.blocks)
        self._current: tuple[int, Generations] | None = None

    def start(self, assignments: Assignments | None = None) -> State:
        """Return the state before the first generation: random orientations and classes, unless some are given."""
        if assignments is not None:
            scaled = assignments.with_scale(start_scales(self.generations(0).stage))
            return State(scaled, self._resolutions[0], start=self._config.marching.starts)
        return State(self._random(0), self._resolutions[0])

    def _random(self, start: int) -> Assignments:
        rng = np.random.default_rng([self._config.seed, _START, start])
        random = Assignments.random(self._n, self._config.classes, rng)
        return random.with_scale(start_scales(self.generations(0).stage))

    def generations(self, stage: int) -> Generations:
        """Return what does generations at a stage's resolution; the last one is kept."""
        if self._current is None or self._current[0] != stage:
            self._current = None  # its arrays go before new ones come
            d = self._resolutions[stage]
            settings = StageSettings(self._config, self._pixels, self._score, d)
            self._current = (stage, Generations(Stage(settings, self._images, self._backend, self._workers)))
        return self._current[1]

    def run(self, state: State, until: int, after: Callable[[State], None]) -> State:
        """Do generations until the end, or until `until` are done.

        Parameters
        ----------
        after
            Called after every generation: writes the checkpoint, shows progress.
        """
        while not state.done and state.generation < until:
            state = self._next(self.generations(state.stage).run(state))
            after(state)
        return state

    def _next(self, state: State) -> State:
        """Stay at a resolution, go on to the next, or end."""
        config = self._config.marching
        last = state.generation >= self._config.max_generations
        if state.start < config.starts and (
            last or state.age == min(config.start_generations, config.first_generations)
        ):
            return self._compare_starts(state, last=last)
        needed = config.first_generations if state.stage == 0 else config.generations
        if last:
            return state.with_(done=True)
        if state.stage_generation < needed:
            return state
        if state.stage + 1 == len(self._resolutions):
            return state.with_(done=True)
        if self._agrees(state):
            d = self._resolutions[state.stage + 1]
            return state.with_(stage=state.stage + 1, stage_generation=0, tries=0, d_angstrom=d)
        if state.tries >= config.patience:
            return state.with_(done=True)
        return state.with_(stage_generation=0, tries=state.tries + 1)

    def _compare_starts(self, state: State, *, last: bool) -> State:
        """Keep the best start of each half; begin the next one, or go on, or after the last end, with what was kept."""
        config, a = self._config, state.assignments
        assert state.models is not None
        kept, models = a, state.models
        if state.kept is not None and state.kept_models is not None:
            kept, models = state.kept, state.kept_models.copy()
            for half in range(2 if config.halves else 1):
                rows = np.concatenate([block.rows for block in self._images.blocks if block.half == half])
                own = slice(half * config.classes, (half + 1) * config.classes)
                before, now = (kept.rows(rows), models[own]), (a.rows(rows), state.models[own])
                better, models[own] = better_start(before, now)
                kept = kept.replaced(rows, better)
        start = state.start + 1
        if start < config.marching.starts and not last:
            again = state.with_(assignments=self._random(start), models=None, turn=None, age=0, stage_generation=0)
            return again.with_(start=start, kept=kept, kept_models=models)
        again = state.with_(assignments=kept, models=models, turn=None)
        return again.with_(start=start, kept=None, kept_models=None, done=last)

    def _agrees(self, state: State) -> bool:
        """Whether the halves agree up to this resolution, so that the next holds something."""
        reached = state.history[-1]["half_d_angstrom"]
        if not self._config.halves:
            return True
        return reached is not None and reached <= 1.05 * state.d_angstrom
