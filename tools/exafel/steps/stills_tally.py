"""What became of the shots: a row each, statistics of a rank, and the summary of all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field

from exafel.config.base import Model
from exafel.errors import NothingUsableError
from exafel.io.crystal import CellParameters
from exafel.steps.base import StepSummary
from exafel.stills.shot import Outcome


class LatticeRow(Model):
    """One integrated lattice in the table of shots; angstrom, degrees, pixels.

    `d_min` is the finest resolution integrated, `d_min_signal` that to which the mean I/sigma stays at 1 or above.
    """

    identifier: str
    cell: CellParameters
    n_indexed: int
    n_integrated: int
    d_min: float
    d_min_signal: float | None = None
    mean_i_over_sigma: float
    rmsd_px: float
    rmsd_delta_psi_deg: float
    half_mosaicity_deg: float | None
    domain_size_angstrom: float | None
    mosaicity_degenerate: bool = False


class ShotRow(Model):
    """One shot in the table of shots.

    `shot` counts all shots of the run from 0; `file` and `index` say where the image is, `index` None in a file of one
    image; `rank` processed it; `d_min_spots` is the resolution that its spots reach, angstrom; `sigma_px` is the spread
    of its spots, radial and tangential; `cpu_s` has the CPU seconds by phase.
    """

    shot: int
    file: str
    index: int | None
    rank: int
    outcome: str
    reason: str
    n_spots: int
    d_min_spots: float | None = None
    sigma_px: tuple[float, float] | None
    lattices: tuple[LatticeRow, ...]
    cpu_s: dict[str, float]


class StillsSummary(StepSummary):
    """What became of the shots."""

    n_shots: int = Field(description="Shots processed.")
    n_hits: int = Field(description="Shots with enough spots.")
    n_indexed: int = Field(description="Shots with at least one lattice.")
    n_integrated: int = Field(description="Shots with at least one integrated lattice.")
    n_lattices: int = Field(description="Integrated lattices.")
    n_reflections: int = Field(description="Integrated reflections.")
    outcomes: dict[str, int] = Field(description="Shots by outcome.")
    reasons: dict[str, int] = Field(description="Shots that were not integrated, by reason.")
    hit_rate: float = Field(description="Hits of all shots.")
    indexed_of_hits: float = Field(description="Indexed shots of the hits.")
    indexed_of_shots: float = Field(description="Indexed shots of all.")
    cell_median: CellParameters = Field(description="Median of each cell parameter, angstrom and degrees.")
    rmsd_px_median: float = Field(description="Median rmsd of spot positions.")
    cpu_s_per_image: float = Field(description="CPU seconds a shot, reading included.")
    cpu_s_per_phase: dict[str, float] = Field(description="CPU seconds a shot of each phase.")


@dataclass
class Tally:
    """Statistics of some shots: what the summary needs of each rank, small whatever the number of reflections."""

    n_shots: int = 0
    n_reflections: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    cells: list[CellParameters] = field(default_factory=list)
    rmsd_px: list[float] = field(default_factory=list)
    cpu_s: Counter[str] = field(default_factory=Counter)

    def add(self, row: ShotRow) -> None:
        """Count one shot."""
        self.n_shots += 1
        self.outcomes[row.outcome] += 1
        if row.reason:
            self.reasons[f"{row.outcome}: {row.reason}"] += 1
        for lattice in row.lattices:
            self.n_reflections += lattice.n_integrated
            self.cells.append(lattice.cell)
            self.rmsd_px.append(lattice.rmsd_px)
        self.cpu_s.update(row.cpu_s)

    def join(self, other: Tally) -> None:
        """Add another rank's shots."""
        self.n_shots += other.n_shots
        self.n_reflections += other.n_reflections
        self.outcomes.update(other.outcomes)
        self.reasons.update(other.reasons)
        self.cells += other.cells
        self.rmsd_px += other.rmsd_px
        self.cpu_s.update(other.cpu_s)


def summarize(tallies: Sequence[Tally], out: Path) -> StillsSummary:
    """Sum up the shots of all ranks, whose tables lie in `out`.

    Raises
    ------
    NothingUsableError
        No shot was integrated.
    """
    total = Tally()
    for tally in tallies:
        total.join(tally)
    reasons = dict(sorted(total.reasons.items(), key=lambda item: (-item[1], item[0])))
    n_integrated = total.outcomes[Outcome.INTEGRATED]
    if not n_integrated:
        table = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise NothingUsableError(
            f"none of {total.n_shots} shots was integrated: {table}",
            where=out,
            hint="rank-*_shots.jsonl there has every shot's file and reason",
        )
    n_hits = total.n_shots - total.outcomes[Outcome.NO_HIT] - total.outcomes[Outcome.READ_FAILED]
    n_indexed = n_integrated + total.outcomes[Outcome.INTEGRATE_FAILED]
    per_phase = {phase: seconds / total.n_shots for phase, seconds in sorted(total.cpu_s.items())}
    a, b, c, alpha, beta, gamma = (_median([cell[k] for cell in total.cells]) for k in range(6))
    return StillsSummary(
        n_shots=total.n_shots,
        n_hits=n_hits,
        n_indexed=n_indexed,
        n_integrated=n_integrated,
        n_lattices=len(total.cells),
        n_reflections=total.n_reflections,
        outcomes={str(name): count for name, count in sorted(total.outcomes.items())},
        reasons=reasons,
        hit_rate=n_hits / total.n_shots,
        indexed_of_hits=n_indexed / n_hits,
        indexed_of_shots=n_indexed / total.n_shots,
        cell_median=(a, b, c, alpha, beta, gamma),
        rmsd_px_median=_median(total.rmsd_px),
        cpu_s_per_image=round(sum(per_phase.values()), 5),
        cpu_s_per_phase={phase: round(value, 5) for phase, value in per_phase.items()},
    )


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 4)


def batch_line(summary: StillsSummary) -> str:
    """One line on a batch: hit rate, indexed of hits and of all, cell."""
    cell = " ".join(f"{value:.2f}" for value in summary.cell_median)
    return (
        f"{summary.n_shots} shots: hits {summary.hit_rate:.1%}, indexed {summary.indexed_of_hits:.1%} of hits, "
        f"{summary.indexed_of_shots:.1%} of all; {summary.n_integrated} integrated; median cell {cell}"
    )
