"""Lattices: their integrated reflections, what is left of them for merging, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import gemmi
import numpy as np

from exafel.arrays import FloatArray, IntArray
from exafel.config.merge import Intensities
from exafel.errors import InputError
from exafel.io.crystal import CellParameters
from exafel.io.experiment import Experiment, ExperimentList
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.ambiguity import Ambiguity
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.cluster import CellCluster
from exafel.merging.scaling import Reference


@dataclass(frozen=True)
class Estimate:
    """Columns of one estimate of the intensities, and the flag of the reflections that have it."""

    intensity: str
    variance: str
    flag: Flag

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of reflection tables that merging looks at."""
        return ("id", "miller_index", "s1", self.intensity, self.variance, "flags")


ESTIMATES: Mapping[Intensities, Estimate] = {
    "summation": Estimate("intensity.sum.value", "intensity.sum.variance", Flag.INTEGRATED_SUM),
    "profile": Estimate("intensity.prf.value", "intensity.prf.variance", Flag.INTEGRATED_PRF),
}
"""The estimates that can be merged."""
REASONS = ("no_reflections", "n_obs", "space_group", "unit_cell", "no_signal", "correlation", "postrefinement")
"""Why a lattice is left out, in the order of the checks."""


@dataclass(frozen=True, eq=False)
class Target:
    """What lattices are merged into.

    Parameters
    ----------
    asu
        Asymmetric unit of the space group.
    cell
        Cell that resolutions are of until the average cell is known.
    reference
        Intensities to scale to, or None.
    cluster
        Cluster of cells that lattices must belong to, or None.
    ambiguity
        Indexings that lattices choose from, or None.
    """

    asu: AsymmetricUnit
    cell: gemmi.UnitCell
    reference: Reference | None = None
    cluster: CellCluster | None = None
    ambiguity: Ambiguity | None = None


@dataclass(frozen=True, eq=False)
class Lattice:
    """One lattice that is merged.

    Parameters
    ----------
    digest
        Two numbers that stand for identifier and orientation: lattices are numbered in their order.
    cell, wavelength_angstrom
        Its unit cell (angstrom, degrees), and the wavelength of its shot.
    odd
        Whether it is in the odd half.
    scale, correlation
        Factor its intensities were multiplied by, and their correlation with the reference (NaN without one), after
        postrefinement where there is one.
    n_integrated
        Number of integrated reflections, before any cut.
    keys, intensity, variance
        Its observations, shape (n,).
    rows
        Row of each among the lattice's usable reflections, shape (n,).
    factor
        Factor that each intensity was multiplied by, shape (n,).
    partiality
        Shape (n,); None without postrefinement.
    reindexed
        Number of the reindexing operator.
    """

    identifier: str
    digest: tuple[int, int]
    cell: CellParameters
    wavelength_angstrom: float
    odd: bool
    scale: float
    correlation: float
    n_integrated: int
    keys: IntArray
    intensity: FloatArray
    variance: FloatArray
    rows: IntArray
    factor: FloatArray
    partiality: FloatArray | None = None
    reindexed: int = 0


def split_lattices(
    experiments: ExperimentList,
    table: ReflectionTable,
    part: int = 0,
    n_parts: int = 1,
    intensities: Intensities = "summation",
) -> Iterator[tuple[Experiment, ReflectionTable]]:
    """Yield every `n_parts`-th experiment, from number `part` on, with its usable integrated reflections.

    Usable is a reflection with finite intensity and a positive variance of the estimate that is merged, and the flag of
    that way of integration where the table has flags: one without a profile fit is not replaced by its sum, which would
    mix estimates of different bias.

    Raises
    ------
    InputError
        A column is missing, or the table speaks of an experiment that the list does not have.
    """
    estimate = ESTIMATES[intensities]
    missing = [name for name in estimate.columns if name not in table and name != "flags"]
    if missing:
        hint = "merge needs integrated reflections"
        if intensities == "profile":
            hint = "integrate with stills.integration.profile_fitting, or merge.intensities: summation"
        raise InputError(f"no column {missing[0]} in the reflection table", hint=hint)
    ids = table["id"]
    if len(ids) and int(ids.max()) >= len(experiments):
        raise InputError(f"reflections of experiment {int(ids.max())}, but there are {len(experiments)} experiments")
    intensity, variance = table[estimate.intensity], table[estimate.variance]
    usable = (variance > 0) & np.isfinite(variance) & np.isfinite(intensity)
    if "flags" in table:
        usable &= table.has_flag(estimate.flag)
    kept = ("miller_index", "s1", estimate.intensity, estimate.variance)
    needed = ReflectionTable({name: table[name] for name in kept})
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    ends = np.searchsorted(ids[rows], np.arange(len(experiments) + 1))
    for number in range(part, len(experiments), n_parts):
        yield experiments[number], needed.select(rows[ends[number] : ends[number + 1]])
