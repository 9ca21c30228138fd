"""The observations that a rank merges, in memory or, where they are too many for it, on disk in parts by reflection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exafel.arrays import IntArray
from exafel.errors import ExafelError
from exafel.merging.group import Observations, renumbered, scattered

N_PARTS = 64
_ROW = np.dtype([("order", "<i8"), ("intensity", "<f8"), ("variance", "<f8")])


class ObservationStore:
    """Takes observations in any order and gives them back in parts, all of a reflection in one.

    As long as there are no more than `rows_in_memory`, there is one part. Beyond that they are written to files by a
    hash of the reflection, and one of these at a time is in memory. What is computed from the observations of single
    reflections is the same either way.

    Parameters
    ----------
    folder
        Where files go; made when it is needed. This rank's alone.
    rows_in_memory
        Most observations held at once.
    """

    def __init__(self, folder: Path, rows_in_memory: int) -> None:
        self._folder = folder
        self._rows_in_memory = rows_in_memory
        self._held: list[Observations] = []
        self._n_held = 0
        self._on_disk = False
        self._numbers = np.zeros(0, dtype=np.int64)
        self._sorted: Observations | None = None
        self.n_rows = 0

    @property
    def on_disk(self) -> bool:
        """Whether observations are in files."""
        return self._on_disk

    def add(self, observations: Observations) -> None:
        """Take observations."""
        self._held.append(observations)
        self._n_held += len(observations)
        self.n_rows += len(observations)
        if self._n_held > self._rows_in_memory:
            self._spill()

    def number(self, numbers: IntArray) -> None:
        """Say what number each lattice has for good; lattices with a negative one are left out."""
        self._numbers = numbers
        self._sorted = None

    def renumber(self, numbers: IntArray) -> None:
        """Give lattices other numbers, by the number that they have; with a negative one they are left out."""
        self.number(np.where(self._numbers < 0, -1, numbers[self._numbers]))

    def parts(self) -> Iterator[Observations]:
        """Yield observations sorted by reflection and lattice, part after part; can be asked for again."""
        if not self._on_disk:
            if self._sorted is None:
                held = Observations.concatenate(self._held)
                self._held = [held]
                self._sorted = renumbered(held, self._numbers)
            yield self._sorted
            return
        if self._n_held:
            self._spill()
        for part in range(N_PARTS):
            path = self._path(part)
            rows = np.fromfile(path, dtype=_ROW) if path.is_file() else np.zeros(0, dtype=_ROW)
            yield renumbered(Observations(rows["order"], rows["intensity"], rows["variance"]), self._numbers)

    def clear(self) -> None:
        """Forget everything."""
        for part in range(N_PARTS) if self._on_disk else ():
            self._path(part).unlink(missing_ok=True)
        self._held, self._n_held, self._sorted, self._on_disk, self.n_rows = [], 0, None, False, 0

    def _spill(self) -> None:
        """Write what is held to the files of its parts."""
        held = self._held
        self._held, self._n_held = [], 0
        try:
            if not self._on_disk:
                self._folder.mkdir(parents=True, exist_ok=True)
                for part in range(N_PARTS):
                    self._path(part).unlink(missing_ok=True)  # what a killed run left
                self._on_disk = True
            while held:
                self._append(held.pop(0))
        except OSError as error:
            reason = error.strerror or str(error)
            hint = "make room there, or set merge.rows_in_memory to what fits into memory"
            raise ExafelError(f"cannot write observations: {reason}", where=self._folder, hint=hint) from error

    def _append(self, observations: Observations) -> None:
        part = (scattered(observations.keys) >> np.uint64(32)).astype(np.int64) % N_PARTS
        rows = np.empty(len(observations), dtype=_ROW)
        order = np.argsort(part, kind="stable")
        rows["order"], rows["intensity"] = observations.order[order], observations.intensity[order]
        rows["variance"] = observations.variance[order]
        ends = np.cumsum(np.bincount(part, minlength=N_PARTS))
        for number, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends, strict=True)):
            if start < end:
                with self._path(number).open("ab") as stream:
                    stream.write(rows[start:end].tobytes())  # `tofile` would not notice a full disk

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:02d}.observations"
