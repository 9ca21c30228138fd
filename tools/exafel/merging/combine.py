"""From this rank's lattices to the merged reflections of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np

from exafel.arrays import FloatArray
from exafel.config.merge import Ev11Config, MergeConfig
from exafel.errors import NothingUsableError
from exafel.io.crystal import CellParameters
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.ev11 import Deviations, Ev11, deviations, fit_ev11, group_means, intensity_bins
from exafel.merging.group import Observations, order_words
from exafel.merging.lattices import Lattice, Target, number_lattices
from exafel.parallel.comm import Communicator


@dataclass(frozen=True, eq=False)
class LatticeTable:
    """One row a lattice of all ranks, in the order of their numbers.

    Parameters
    ----------
    cells, wavelengths_angstrom, scales, correlations, n_integrated, n_kept
        Shape (n, 6), then (n,).
    """

    cells: FloatArray
    wavelengths_angstrom: FloatArray
    scales: FloatArray
    correlations: FloatArray
    n_integrated: FloatArray
    n_kept: FloatArray

    def __len__(self) -> int:
        return len(self.cells)

    def average_cell(self) -> CellParameters:
        """Mean cell, angstrom and degrees."""
        a, b, c, alpha, beta, gamma = (float(value) for value in self.cells.mean(axis=0))
        return a, b, c, alpha, beta, gamma


def tabulate(lattices: Sequence[Lattice], comm: Communicator) -> tuple[LatticeTable, list[int]]:
    """Number all lattices and put them in one table.

    Returns
    -------
    The table, the same on every rank, and the numbers of this rank's lattices.
    """
    digests = np.array([item.digest for item in lattices], dtype=np.uint64).reshape(-1, 2)
    rows = np.array(
        [
            (*i.cell, i.wavelength_angstrom, i.scale, i.correlation, i.n_integrated, len(i.keys))
            for i in lattices
        ],
        dtype=np.float64,
    ).reshape(-1, 11)  # fmt: skip
    everyone = comm.allgather((digests, rows))
    all_digests = np.concatenate([part[0] for part in everyone])
    all_rows = np.concatenate([part[1] for part in everyone])
    numbers = number_lattices(digests, all_digests)
    ordered = all_rows[np.lexsort((all_digests[:, 1], all_digests[:, 0]))]
    table = LatticeTable(ordered[:, :6], *(ordered[:, column] for column in range(6, 11)))
    return table, numbers.tolist()


def take_observations(lattices: list[Lattice], numbers: Sequence[int]) -> Observations:
    """Put the observations of this rank's lattices together; the list is emptied, so that they are held once."""
    n = sum(len(lattice.keys) for lattice in lattices)
    result = Observations(np.empty(n, dtype=np.int64), np.empty(n), np.empty(n))
    end = n
    for number in reversed(numbers):
        lattice = lattices.pop()
        count = len(lattice.keys)
        rows = slice(end - count, end)
        result.order[rows] = order_words(lattice.keys, number, odd=lattice.odd)
        result.intensity[rows], result.variance[rows] = lattice.intensity, lattice.variance
        end -= count
    return result


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


def corrected_variance(
    grouped: Observations, config: MergeConfig, comm: Communicator
) -> tuple[FloatArray, Ev11 | None]:
    """Variances by the error model, fitted to the observations of all ranks.

    Parameters
    ----------
    grouped
        Sorted observations; each reflection's are all on one rank.

    Returns
    -------
    Variances, shape (n,), and the fitted model; the observations' own and None where no model is wanted.
    """
    if not isinstance(config.error, Ev11Config):
        return grouped.variance, None
    starts = grouped.starts()
    data = deviations(grouped.intensity, grouped.variance, starts, config.minimum_multiplicity)
    low, high = _range(data, comm)
    n_bins = config.error.n_intensity_bins
    bins = intensity_bins(data.mean, low, high, n_bins)
    model = fit_ev11(data, bins, n_bins, comm)
    means, _ = group_means(grouped.intensity, starts)
    return model.variance(grouped.variance, means), model


def _range(data: Deviations, comm: Communicator) -> tuple[float, float]:
    mine = (float(data.mean.min(initial=np.inf)), float(data.mean.max(initial=-np.inf)))
    everyone = comm.allgather(mine)
    low, high = min(part[0] for part in everyone), max(part[1] for part in everyone)
    return (low, high) if low < high else (0.0, 1.0)


def finest_resolution(grouped: Observations, target: Target, cell: gemmi.UnitCell, comm: Communicator) -> float:
    """Resolution (angstrom) of the finest reflection that any rank has.

    Raises
    ------
    NothingUsableError
        No rank has any.
    """
    keys = np.unique(grouped.keys)
    mine = float(resolution(target.asu.indices(keys), cell).max(initial=0.0))
    finest = max(comm.allgather(mine))
    if finest == 0.0:
        group = target.asu.space_group.xhm()
        raise NothingUsableError(f"every reflection is systematically absent in {group}", hint="set merge.space_group")
    return float(1.0 / np.sqrt(finest)) * (1.0 - 1e-9)
