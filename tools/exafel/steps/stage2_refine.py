"""The minimization of stage 2 over all ranks: every rank takes the same steps, with sums that are the same on each."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import FloatArray
from exafel.bragg.lbfgs import LbfgsState, step
from exafel.bragg.stage2 import PIXEL_SUMS, PixelSums, Stage2Shots
from exafel.config.stage2 import Stage2Config
from exafel.errors import InputError
from exafel.io.files import atomic_write
from exafel.parallel.comm import Communicator

CHECKPOINT_NAME = "stage2.npz"


@dataclass(eq=False)
class Progress:
    """Where the refinement is, beside L-BFGS' own state.

    Parameters
    ----------
    log_scale
        Logarithm of every shot's scale, all ranks', by the number of the lattice.
    unit
        What one unit of each variable is of ln F, shape (n,).
    history
        A row an iteration: see `Refinement._record`.
    best_x, best_held_out, best_iteration
        Where the held-out pixels were most likely.
    snapshots
        ln F of each iteration, single precision, where they are kept.
    reason
        Why it ended; empty while it goes on.
    """

    log_scale: FloatArray
    unit: FloatArray
    history: list[dict[str, Any]] = field(default_factory=list)
    best_x: FloatArray = field(default_factory=lambda: np.empty(0))
    best_held_out: float = float("inf")
    best_iteration: int = 0
    snapshots: list[FloatArray] = field(default_factory=list)
    reason: str = ""


class Refinement:
    """Refines ln F of all reflections.

    Parameters
    ----------
    shots
        This rank's shots.
    start
        Amplitudes to start from, shape (n,).
    n_lattices
        Number of lattices of the input.
    config, comm
        Parameters and ranks.
    work, mark
        Folder for checkpoints, and what a checkpoint must have been made from.
    """

    def __init__(
        self,
        shots: Stage2Shots,
        start: FloatArray,
        n_lattices: int,
        config: Stage2Config,
        comm: Communicator,
        work: Path,
        mark: str,
    ) -> None:
        self._shots = shots
        self._start = np.log(start)
        self._config = config
        self._comm = comm
        self._path = work / CHECKPOINT_NAME
        self._mark = mark
        self._n_lattices = n_lattices
        self._weight = 0.0 if config.ln_f_sigma is None else config.ln_f_sigma**-2
        self._numbers = np.zeros(PIXEL_SUMS)
        self.progress = Progress(np.zeros(n_lattices), np.ones(len(start)))
        self.state: LbfgsState | None = None
        self._began = time.monotonic()

    def ln_f(self, x: FloatArray) -> FloatArray:
        """Logarithms of amplitudes at `x`."""
        return self._start + self.progress.unit * x

    def run(self, note: Callable[[str], None]) -> None:
        """Refine until it converges; goes on from a checkpoint where there is one."""
        if not self._load():
            self._begin()
            self._record(note)
        state, progress = self.state, self.progress
        assert state is not None
        while not progress.reason:
            progress.reason = self._why_to_stop(state)
            if progress.reason:
                break
            if not step(state, self._objective, longest=1 / progress.unit, memory=self._config.lbfgs_memory):
                progress.reason = "no lower point"
                break
            self._record(note)
            if state.iteration % self._config.checkpoint_every == 0:
                self._save()
        self._save()

    def curvature(self, x: FloatArray) -> FloatArray:
        """Expected second derivative by ln F of all shots' pixels, without the restraint, shape (n,)."""
        sums = self._shots.evaluate(np.exp(self.ln_f(x)), curvature=True)
        return self._comm.allreduce_array(sums.curvature)

    def counts(self) -> FloatArray:
        """Number of shots that have each reflection, shape (n,)."""
        return self._comm.allreduce_array(self._shots.counts())

    def _begin(self) -> None:
        self._objective(np.zeros(len(self._start)))  # finds the scales
        curvature = self.curvature(np.zeros(len(self._start))) + self._weight
        observed = curvature > 0
        self.progress.unit = np.where(observed, 1 / np.sqrt(np.where(observed, curvature, 1.0)), 1.0)
        x = np.zeros(len(self._start))
        value, gradient = self._objective(x)
        self.state = LbfgsState(x, value, gradient)

    def _objective(self, x: FloatArray) -> tuple[float, FloatArray]:
        moved = self.progress.unit * x
        sums = self._shots.evaluate(np.exp(self._start + moved))
        total = self._comm.allreduce_array(np.concatenate([sums.numbers, sums.gradient]))
        self._numbers = total[:PIXEL_SUMS]
        value = float(total[0]) + 0.5 * self._weight * float(moved @ moved)
        return value, self.progress.unit * (total[PIXEL_SUMS:] + self._weight * moved)

    def _record(self, note: Callable[[str], None]) -> None:
        """Add a row to the history: what the current point is worth."""
        state, progress = self.state, self.progress
        assert state is not None
        fitted, out = (PixelSums(values) for values in np.split(self._numbers, 2))
        held_out = out.bounded_likelihood if out.n else fitted.bounded_likelihood
        row = {
            "iteration": state.iteration,
            "evaluations": state.evaluations,
            "objective": state.value,
            "objective_per_pixel": fitted.likelihood,
            "held_out_per_pixel": held_out,
            "sigma_z": fitted.sigma_z,
            "sigma_z_held_out": out.sigma_z,
            "largest_gradient": float(np.abs(state.gradient).max()),
            "rms_gradient": float(np.sqrt(np.mean(state.gradient**2))),
            "seconds": round(time.monotonic() - self._began, 3),
        }
        progress.history.append(row)
        if held_out < progress.best_held_out:
            progress.best_held_out, progress.best_x = held_out, state.x.copy()
            progress.best_iteration = state.iteration
        if self._config.snapshots and self._comm.rank == 0:
            progress.snapshots.append(self.ln_f(state.x).astype(np.float32))
        if self._comm.rank == 0:
            note(
                f"iteration {state.iteration}: {row['objective_per_pixel']:.6f} a pixel, {held_out:.6f} held out, "
                f"sigma(Z) {row['sigma_z']:.4f}, largest gradient {row['largest_gradient']:.3g}"
            )

    def _why_to_stop(self, state: LbfgsState) -> str:
        config = self._config
        if float(np.abs(state.gradient).max()) < config.gradient_tolerance:
            return "gradient"
        if config.held_out > 0 and state.iteration - self.progress.best_iteration >= config.patience:
            return "held-out pixels"
        return "iterations" if state.iteration >= config.max_iterations else ""

    @property
    def n_pixels(self) -> int:
        """Pixels of all ranks that are fitted."""
        return int(self._numbers[3])

    def all_scales(self) -> FloatArray:
        """Logarithm of every shot's scale by the number of its lattice; 0 where a shot is not used."""
        mine = np.zeros(self._n_lattices)
        mine[self._shots.numbers] = self._shots.log_scale
        return self._comm.allreduce_array(mine)

    def _save(self) -> None:
        """Write a checkpoint: everything that the next iterations depend on."""
        self.progress.log_scale = self.all_scales()
        if self._comm.rank != 0 or self.state is None:
            return
        progress = self.progress
        told = {
            "mark": self._mark,
            "history": progress.history,
            "best_held_out": progress.best_held_out,
            "best_iteration": progress.best_iteration,
            "reason": progress.reason,
        }
        arrays: dict[str, Any] = {
            **self.state.arrays(),
            "log_scale": progress.log_scale,
            "unit": progress.unit,
            "best_x": progress.best_x,
            "numbers": self._numbers,
            "snapshots": np.array(progress.snapshots, dtype=np.float32),
            "told": np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
        }
        content = io.BytesIO()
        np.savez(content, **arrays)
        with atomic_write(self._path) as stream:
            stream.write(content.getvalue())

    def _load(self) -> bool:
        """Read a checkpoint on rank 0, for all; False where there is none of this refinement."""
        arrays = self._comm.bcast(self._read() if self._comm.rank == 0 else None)
        if arrays is None:
            return False
        told = json.loads(arrays["told"].tobytes())
        self.state = LbfgsState.from_arrays(arrays)
        self._numbers = arrays["numbers"]
        self.progress = Progress(
            arrays["log_scale"],
            arrays["unit"],
            told["history"],
            arrays["best_x"],
            told["best_held_out"],
            told["best_iteration"],
            list(arrays["snapshots"]) if self._comm.rank == 0 else [],
            told["reason"],
        )
        self._shots.log_scale[:] = arrays["log_scale"][self._shots.numbers]
        return True

    def _read(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"damaged checkpoint: {error}", where=self._path, hint="give --no-resume") from error
        return arrays if json.loads(arrays["told"].tobytes())["mark"] == self._mark else None
