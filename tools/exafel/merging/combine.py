"""From each rank's share of the observations to the merged reflections of all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import gemmi
import numpy as np

from exafel.config.merge import MergeConfig
from exafel.errors import NothingUsableError
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.error_models import ErrorModel, fit_errors
from exafel.merging.group import Observations
from exafel.merging.halves import random_splits
from exafel.merging.merge import Merged, join, merge
from exafel.merging.passes import Gathered
from exafel.merging.scaling import Reference
from exafel.parallel.comm import Communicator


@dataclass(frozen=True, eq=False)
class Grouped:
    """What a rank merges: its share of the observations, without what is absent or too far out.

    Parameters
    ----------
    gathered
        Where they come from.
    asu, cell
        What keys and resolutions are of.
    d_min
        Limit, angstrom; None: there is none.
    """

    gathered: Gathered
    asu: AsymmetricUnit
    cell: gemmi.UnitCell
    d_min: float | None
    _in_memory: list[Observations] = field(default_factory=list, init=False)

    def parts(self) -> Iterator[Observations]:
        """Yield the observations sorted by reflection and lattice, part after part; can be asked for again."""
        store = self.gathered.store
        if store.on_disk:
            for part in store.parts():
                yield allowed(part, self.asu, self.cell, self.d_min)
            return
        if not self._in_memory:
            self._in_memory.extend(allowed(part, self.asu, self.cell, self.d_min) for part in store.parts())
        yield from self._in_memory


def allowed(grouped: Observations, asu: AsymmetricUnit, cell: gemmi.UnitCell, d_min: float | None) -> Observations:
    """Drop sorted observations of systematically absent reflections, and those beyond `d_min` (angstrom)."""
    starts = grouped.starts()
    hkl = asu.indices(grouped.keys[starts])
    good = ~asu.absent(hkl)
    if d_min is not None:
        good &= resolution(hkl, cell) <= 1.0 / d_min**2
    if good.all():
        return grouped
    return grouped.take(np.repeat(good, np.diff(np.append(starts, len(grouped)))))


def fit_and_merge(
    grouped: Grouped, reference: Reference | None, config: MergeConfig, comm: Communicator
) -> tuple[Merged, ErrorModel]:
    """Fit the error model to the observations of all ranks, and merge this rank's.

    Returns
    -------
    Every reflection of this rank's, however few its observations, and the error model.
    """
    table = grouped.gathered.table
    errors = fit_errors(grouped.parts, grouped.gathered.store.n_rows, table.correlations, reference, config, comm)
    splits = random_splits(table.digests, config.statistics.random_splits)
    return join([merge(part, errors.variance(part), splits) for part in grouped.parts()]), errors


def finest_resolution(merged: Merged, asu: AsymmetricUnit, cell: gemmi.UnitCell, comm: Communicator) -> float:
    """Resolution (angstrom) of the finest reflection that any rank has.

    Raises
    ------
    NothingUsableError
        No rank has any.
    """
    mine = float(resolution(asu.indices(merged.keys), cell).max(initial=0.0))
    finest = max(comm.allgather(mine))
    if finest == 0.0:
        group = asu.space_group.xhm()
        raise NothingUsableError(f"every reflection is systematically absent in {group}", hint="set merge.space_group")
    return float(1.0 / np.sqrt(finest)) * (1.0 - 1e-9)
