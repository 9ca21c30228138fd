"""Error models: what makes the errors of the integration those of the observations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from exafel.arrays import FloatArray
from exafel.config.merge import MergeConfig
from exafel.config.merge_errors import Ev11Config, GivenErrorModelConfig, Mm24Config, SampleResidualsConfig
from exafel.merging.ev11 import Deviations, Ev11, deviations, fit_ev11, group_means, intensity_bins
from exafel.merging.group import Observations, Parts, scattered
from exafel.merging.mm24 import Mm24, fit_mm24, pair_differences
from exafel.merging.scaling import Reference
from exafel.parallel.comm import Communicator


class ErrorModel(Protocol):
    """What turns the variances of the integration into those that observations are merged with."""

    def variance(self, grouped: Observations) -> FloatArray:
        """Variances of sorted observations, all of each reflection, shape (n,)."""
        ...

    def parameters(self) -> dict[str, float]:
        """Fitted parameters by name."""
        ...


@dataclass(frozen=True)
class IntegrationErrors:
    """The observations' own errors."""

    def variance(self, grouped: Observations) -> FloatArray:
        """Return the observations' variances."""
        return grouped.variance

    def parameters(self) -> dict[str, float]:
        """Return none."""
        return {}


@dataclass(frozen=True)
class SampleResiduals:
    """The sample variance of each reflection's observations; a single one keeps its own."""

    def variance(self, grouped: Observations) -> FloatArray:
        """Return one variance for all observations of a reflection."""
        starts = grouped.starts()
        mean, counts = group_means(grouped.intensity, starts)
        squares = (grouped.intensity - mean) ** 2
        totals = np.add.reduceat(squares, starts) if len(starts) else squares
        spread = np.repeat(totals, np.diff(np.append(starts, len(grouped)))) / np.maximum(counts - 1, 1)
        return np.where((counts > 1) & (spread > 0), spread, grouped.variance)

    def parameters(self) -> dict[str, float]:
        """Return none."""
        return {}


@dataclass(frozen=True, eq=False)
class Ev11Errors:
    """The fitted model of `exafel.merging.ev11`."""

    model: Ev11

    def variance(self, grouped: Observations) -> FloatArray:
        """Return variances by the fitted factors and the plain mean of each reflection."""
        means, _ = group_means(grouped.intensity, grouped.starts())
        return self.model.variance(grouped.variance, means)

    def parameters(self) -> dict[str, float]:
        """Return the three factors."""
        return {"sdfac": self.model.sdfac, "sdb": self.model.sdb, "sdadd": self.model.sdadd}


@dataclass(frozen=True, eq=False)
class GivenErrors:
    """Ev11 with given factors, and with the reference's intensities in place of <I>: no observation needs another."""

    model: Ev11
    reference: Reference

    def variance(self, grouped: Observations) -> FloatArray:
        """Return variances by the given factors; a reflection that the reference lacks counts as of no intensity."""
        expected = self.reference.look_up(grouped.keys)
        return self.model.variance(grouped.variance, np.nan_to_num(np.maximum(expected, 0.0)))

    def parameters(self) -> dict[str, float]:
        """Return the three factors."""
        return {"sdfac": self.model.sdfac, "sdb": self.model.sdb, "sdadd": self.model.sdadd}


@dataclass(frozen=True, eq=False)
class Mm24Errors:
    """The fitted model of `exafel.merging.mm24`."""

    model: Mm24
    correlations: FloatArray

    def variance(self, grouped: Observations) -> FloatArray:
        """Return variances by the fitted factors, the mean of each reflection and the correlation of each lattice."""
        means, _ = group_means(grouped.intensity, grouped.starts())
        return self.model.variance(grouped.variance, means, self.correlations[grouped.lattices])

    def parameters(self) -> dict[str, float]:
        """Return sfac and the coefficients of sadd."""
        return self.model.parameters()


def fit_errors(
    parts: Parts,
    n_rows: int,
    correlations: FloatArray,
    reference: Reference | None,
    config: MergeConfig,
    comm: Communicator,
) -> ErrorModel:
    """Fit the error model that is configured, to the observations of all ranks.

    Parameters
    ----------
    parts
        This rank's observations.
    n_rows
        About how many these are.
    correlations
        Correlation of each lattice, by number, with the reference; NaN where there is none.
    reference
        What lattices were scaled to, or None.
    config, comm
        The configuration, and the ranks.

    Raises
    ------
    InputError
        There is too little to fit to.
    """
    chosen = config.error
    if isinstance(chosen, SampleResidualsConfig):
        return SampleResiduals()
    if isinstance(chosen, GivenErrorModelConfig):
        assert reference is not None  # the configuration has seen to it
        return GivenErrors(Ev11(chosen.sdfac, chosen.sdb, chosen.sdadd, 0.0, 0), reference)
    if isinstance(chosen, Ev11Config):
        data = _deviations(_part_of(parts, n_rows, chosen.max_observations, comm), config.minimum_multiplicity)
        low, high = _range(data.mean, comm)
        n_bins = chosen.n_intensity_bins
        return Ev11Errors(fit_ev11(data, intensity_bins(data.mean, low, high, n_bins), n_bins, comm))
    if isinstance(chosen, Mm24Config):
        known = np.where(np.isfinite(correlations), correlations, 0.0)
        constant = chosen.constant_sadd or not np.isfinite(correlations).any()
        some = _part_of(parts, n_rows, chosen.max_observations, comm)
        pairs = [pair_differences(part, known, config.minimum_multiplicity, chosen.n_max_differences) for part in some]
        return Mm24Errors(fit_mm24(pairs, chosen, constant_sadd=constant, comm=comm), known)
    return IntegrationErrors()


def _part_of(parts: Parts, n_rows: int, max_observations: int, comm: Communicator) -> Iterable[Observations]:
    """Observations of as many reflections, chosen by their indices alone, as keep them below a number on all ranks."""
    n_all = float(comm.allreduce_sum(np.array([n_rows], dtype=np.float64))[0])
    if n_all <= max_observations:
        return parts()
    share = np.uint64(max_observations / n_all * 2.0**32)
    return (part.take(np.flatnonzero((scattered(part.keys) & np.uint64(0xFFFFFFFF)) < share)) for part in parts())


def _deviations(parts: Iterable[Observations], more_than: int) -> Deviations:
    found = [deviations(part.intensity, part.variance, part.starts(), more_than) for part in parts]
    if len(found) == 1:
        return found[0]
    return Deviations(
        np.concatenate([item.squared for item in found]),
        np.concatenate([item.mean for item in found]),
        np.concatenate([item.variance for item in found]),
    )


def _range(mean: FloatArray, comm: Communicator) -> tuple[float, float]:
    mine = (float(mean.min(initial=np.inf)), float(mean.max(initial=-np.inf)))
    everyone = comm.allgather(mine)
    low, high = min(part[0] for part in everyone), max(part[1] for part in everyone)
    return (low, high) if low < high else (0.0, 1.0)
