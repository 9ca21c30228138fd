"""Which shots show a single particle: a table with lit pixels, photons, background, size and label of every shot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from exafel.arrays import FloatArray
from exafel.config.spi import SpiHitsConfig
from exafel.errors import NothingUsableError
from exafel.io.events import Stage
from exafel.io.files import atomic_write
from exafel.io.spi_file import SpiShots
from exafel.io.spi_hits import COLUMNS
from exafel.parallel.comm import Communicator, from_root
from exafel.spi.grids import Pixels
from exafel.spi.hits import LABELS, Features, Labelled, Rings, background_chi2, chi2_limit, label
from exafel.spi.loading import usable_pixels
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.steps.spi_reconstruct import shot_files

STEP = "spi_hits"
_AT_ONCE = 500


class Summary(StepSummary):
    """How many shots there are of every kind."""

    n_shots: int
    labels: dict[str, int] = Field(description="Shots by label.")
    hit_rate: float
    median_photons: float = Field(description="Of single hits.")
    size_angstrom: float = Field(description="Median of single hits, as spheres.")
    size_range_angstrom: tuple[float, float]
    background_photons: float = Field(description="Of the mean shot without a hit.")


def request(config: SpiHitsConfig, images: Sequence[Path], out: Path) -> StepRequest:
    """Say which shots are looked at."""
    return StepRequest(STEP, config, {"images": require_paths(tuple(images), "images")}, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:
    """Look at all shots, the ranks each at their part.

    Raises
    ------
    InputError
        The shots cannot be read.
    NothingUsableError
        No shot shows a single particle.
    """
    config = request.config
    assert isinstance(config, SpiHitsConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Summary)
        paths = from_root(comm, lambda: [file for path in request.inputs["images"] for file in shot_files(path)])
        work = _Hits(step, SpiShots(paths), config, comm, hooks)
        with step.phase("features"):
            features = work.features()
        with step.phase("background"):
            background, chi2 = work.background(features)
        labelled = label(features, chi2, chi2_limit(background, config.background_sigma), work.rings, config)
        summary = from_root(comm, lambda: work.conclude(features, chi2, labelled, background))
        return step.finish(summary)


class _Hits:
    """The part of the shots that this rank looks at."""

    def __init__(self, step: StepRun, shots: SpiShots, config: SpiHitsConfig, comm: Communicator, hooks: Hooks) -> None:
        self._step, self._shots, self._config, self._comm, self._hooks = step, shots, config, comm, hooks
        self._pixels: Pixels = usable_pixels(shots, 1e-6)
        self.rings = Rings(self._pixels)
        bounds = [len(shots) * (comm.rank + i) // comm.size for i in (0, 1)]
        self._parts = [np.arange(i, min(i + _AT_ONCE, bounds[1])) for i in range(bounds[0], bounds[1], _AT_ONCE)]

    def features(self) -> Features:
        """Measure all shots; every rank gets all of it."""
        found = []
        with self._comm.counter() as counter, self._hooks.progress(STEP, len(self._shots)) as progress:
            for rows in self._parts:
                found.append(Features.of(self._shots.read(rows)[:, self._pixels.index], self.rings, self._config))
                for row in rows:
                    self._step.emit(Stage.START, int(row), 0, "")
                progress.update(counter.take(len(rows)) + len(rows))
        every = [item for part in self._comm.allgather(found) for item in part]
        return Features(
            *(np.concatenate([getattr(item, name) for item in every]) for name in ("lit", "photons", "profiles"))
        )

    def background(self, features: Features) -> tuple[FloatArray, FloatArray]:
        """Mean of the shots that are not bright, shape (pixels,), and chi2 of all shots against it."""
        dark = ~features.bright(self._config) & np.isfinite(features.photons)
        total, n = np.zeros(len(self._pixels)), 0
        for rows in self._parts:
            chosen = rows[dark[rows]]
            if len(chosen):
                total += self._shots.read(chosen)[:, self._pixels.index].sum(axis=0, dtype=np.float64)
                n += len(chosen)
        sums = self._comm.allreduce_sum(np.append(total, n))
        background = sums[:-1] / max(sums[-1], 1.0)
        if sums[-1] < 10:  # too few to be a model: then lit pixels and photons decide
            background = np.zeros_like(background)
        chi2 = [background_chi2(self._shots.read(rows)[:, self._pixels.index], background) for rows in self._parts]
        own = np.concatenate(chi2) if chi2 else np.zeros(0)
        return background, np.concatenate(self._comm.allgather(own))

    def conclude(self, features: Features, chi2: FloatArray, found: Labelled, background: FloatArray) -> Summary:
        """Write the table, say what stands out, and sum up, on rank 0."""
        counts = {name: int((found.label == name).sum()) for name in LABELS}
        places = [self._shots.place(index) for index in range(len(self._shots))]
        columns = (
            np.arange(len(self._shots)),
            [place[0] for place in places],
            [place[1] for place in places],
            features.lit.astype(np.int64),
            features.photons,
            np.where(np.isfinite(chi2), chi2, np.nan),
            found.size_angstrom,
            found.scale,
            found.label,
        )
        table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
        path = self._step.out / "hits.csv"
        with atomic_write(path) as stream:
            stream.write(table.to_csv(index=False, float_format="%.6g").encode())
        self._step.add_container(path, "hits", rows=len(table))
        single = found.label == "single"
        self._say(counts, found)
        if not single.any():
            reasons = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
            raise NothingUsableError(f"no shot shows a single particle: {reasons}", hint="look at hits.csv")
        for row, name in enumerate(found.label):
            self._step.emit(Stage.DONE if name == "single" else Stage.FAIL, row, 0, "" if name == "single" else name)
        n_hits = counts["single"] + counts["multiple"] + counts["other_size"]
        return Summary(
            n_shots=len(self._shots),
            labels=counts,
            hit_rate=round(n_hits / len(self._shots), 5),
            median_photons=round(float(np.median(features.photons[single])), 3),
            size_angstrom=round(float(np.median(found.size_angstrom[single])), 2),
            size_range_angstrom=(round(found.size_range[0], 2), round(found.size_range[1], 2)),
            background_photons=round(float(background.sum()), 4),
        )

    def _say(self, counts: dict[str, int], found: Labelled) -> None:
        n_hits = counts["single"] + counts["multiple"] + counts["other_size"]
        for name, words in (
            ("other_size", "are of another size"),
            ("multiple", "have too many photons for one particle"),
        ):
            if counts[name] > 0.02 * max(n_hits, 1):
                size = float(np.median(found.size_angstrom[found.label == name]))
                share = counts[name] / n_hits
                self._hooks.note(f"{counts[name]} hits ({share:.0%}) {words} (median {size:.0f} Å): they are left out")
        if counts["damaged"]:
            self._hooks.note(f"{counts['damaged']} shots cannot be read or hold values that are no numbers")
