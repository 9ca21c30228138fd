"""Quality of merged data by resolution shell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import gemmi
import numpy as np
from pydantic import Field

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.config.base import Model
from exafel.merging.anomalous import anomalous_statistics
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.filters import equal_volume_shells
from exafel.merging.merge import Merged, Sums
from exafel.merging.scaling import Reference

_LOWEST = 1e-10  # 1/d^2 that stands for no low-resolution limit, 1/angstrom^2


class Shell(Model):
    """Statistics of one resolution shell, or of all; None where there is too little to compute it from."""

    d_max: float | None = Field(description="Low resolution end, angstrom; None: no limit.")
    d_min: float = Field(description="High resolution end, angstrom.")
    n_possible: int = Field(description="Unique reflections that there are.")
    n_unique: int = Field(description="Unique reflections merged.")
    n_obs: int = Field(description="Observations merged.")
    completeness: float = Field(description="n_unique / n_possible.")
    multiplicity: float | None = Field(description="n_obs / n_unique.")
    mean_i: float | None = Field(description="Mean of the merged intensities.")
    mean_i_over_sigma: float | None = Field(description="Mean I/sigma of the merged intensities.")
    unmerged_i_over_sigma: float | None = Field(description="Mean I/sigma of the observations, before the error model.")
    n_half: int = Field(description="Reflections that both halves have.")
    cc_half: float | None = Field(description="Correlation of the halves (Karplus & Diederichs 2012).")
    r_split: float | None = Field(
        description="2^-1/2 sum|Io - Ie| / (1/2 sum|Io + Ie|) (White et al. 2012), the halves not scaled to each other."
    )
    r_int: float | None = Field(description="sum||Io| - k|Ie|| / sum|Io| with k the scale of the halves.")
    half_scale: float | None = Field(description="Scale k of the even to the odd half, weights 1/so^2 + 1/se^2.")
    n_iso: int = Field(description="Reflections that the reference has too.")
    cc_iso: float | None = Field(description="Correlation with the reference.")
    cc_half_random: float | None = Field(None, description="Mean CC1/2 of several random splits.")
    cc_half_random_sd: float | None = Field(None, description="Standard deviation of CC1/2 over these splits.")
    n_anom: int = Field(0, description="Acentric reflections both of whose Bijvoet mates were measured.")
    cc_anom: float | None = Field(None, description="Correlation of the Bijvoet differences of the halves.")
    anom_signal: float | None = Field(
        None, description="Mean |Bijvoet difference| / its error: 0.8 where there is nothing but errors."
    )


@dataclass(frozen=True, eq=False)
class Possible:
    """All reflections of a cell, space group and resolution range.

    Parameters
    ----------
    cell
        Unit cell that resolutions are of.
    limits
        Shell limits, 1/d^2 in 1/angstrom^2, shape (n_shells + 1,).
    counts
        Number of unique reflections a shell, shape (n_shells,).
    """

    cell: gemmi.UnitCell
    limits: FloatArray
    counts: IntArray

    def shell(self, hkl: AnyArray) -> IntArray:
        """Shell of reflections (n, 3); -1 outside the resolution range."""
        d_star_sq = resolution(hkl, self.cell)
        n = len(self.counts)
        shell = np.clip(np.searchsorted(self.limits, d_star_sq, side="right") - 1, 0, n - 1)
        inside = (d_star_sq >= self.limits[0]) & (d_star_sq <= self.limits[-1])
        return np.where(inside, shell, -1).astype(np.int64)


def possible_reflections(
    asu: AsymmetricUnit, cell: gemmi.UnitCell, d_min: float, d_max: float | None, n_shells: int
) -> Possible:
    """Count the unique reflections in shells of equal volume; acentric ones twice where Bijvoet mates are apart."""
    lowest = _LOWEST if d_max is None else 1.0 / d_max**2
    limits = equal_volume_shells(lowest, 1.0 / d_min**2, n_shells)
    hkl = gemmi.make_miller_array(cell, asu.space_group, d_min * (1 - 1e-9))
    empty = Possible(cell, limits, np.zeros(n_shells, dtype=np.int64))
    shell = empty.shell(hkl)
    weight = np.ones(len(hkl))
    if not asu.merge_anomalous:
        weight += asu.keys(hkl) != asu.keys(-hkl)
    inside = shell >= 0
    counts = np.bincount(shell[inside], weights=weight[inside], minlength=n_shells)
    return Possible(cell, limits, counts.astype(np.int64))


def shell_statistics(
    merged: Merged, asu: AsymmetricUnit, possible: Possible, reference: Reference | None
) -> tuple[list[Shell], Shell]:
    """Statistics by shell, and of all shells together.

    Parameters
    ----------
    merged
        Merged reflections, all inside the resolution range.
    asu
        What their keys mean.
    possible
        The shells.
    reference
        Intensities to correlate with, or None.
    """
    shell = possible.shell(asu.indices(merged.keys))
    iso = np.full(len(merged), np.nan) if reference is None else reference.look_up(merged.keys)
    order = np.argsort(shell, kind="stable")
    ends = np.searchsorted(shell[order], np.arange(len(possible.counts) + 1))
    shells = []
    for number, count in enumerate(possible.counts):
        rows = np.sort(order[ends[number] : ends[number + 1]])
        limits = (possible.limits[number], possible.limits[number + 1])
        shells.append(_statistics(merged.take(rows), iso[rows], int(count), limits))
    whole = (possible.limits[0], possible.limits[-1])
    return shells, _statistics(merged, iso, int(possible.counts.sum()), whole)


def _statistics(merged: Merged, iso: FloatArray, n_possible: int, limits: tuple[float, float]) -> Shell:
    n_unique, n_obs = len(merged), int(merged.all.n.sum())
    mean = merged.all.mean
    common = (merged.odd.n > 0) & (merged.even.n > 0)
    odd, even = merged.odd.take(common), merged.even.take(common)
    scale = _scale(odd.mean, even.mean, odd.weight + even.weight)
    known = np.isfinite(iso)
    anomalous = anomalous_statistics(merged)
    splits = [cc for half in merged.splits if (cc := _split_correlation(merged.all, half)) is not None]
    return Shell(
        d_max=None if limits[0] <= _LOWEST else 1.0 / math.sqrt(limits[0]),
        d_min=1.0 / math.sqrt(limits[1]),
        n_possible=n_possible,
        n_unique=n_unique,
        n_obs=n_obs,
        completeness=n_unique / n_possible if n_possible else 0.0,
        multiplicity=_ratio(n_obs, n_unique),
        mean_i=_ratio(mean.sum(), n_unique),
        mean_i_over_sigma=_ratio((mean / merged.all.sigma).sum(), n_unique),
        unmerged_i_over_sigma=_ratio(merged.i_over_sigma.sum(), n_obs),
        n_half=int(common.sum()),
        cc_half=correlation(odd.mean, even.mean),
        r_split=r_split(odd.mean, even.mean),
        r_int=None if scale is None else r_int(odd.mean, even.mean, scale),
        half_scale=scale,
        n_iso=int(known.sum()),
        cc_iso=correlation(mean[known], iso[known]),
        cc_half_random=float(np.mean(splits)) if splits else None,
        cc_half_random_sd=float(np.std(splits)) if splits else None,
        n_anom=anomalous.n,
        cc_anom=anomalous.cc_anom,
        anom_signal=anomalous.signal,
    )


def _split_correlation(everything: Sums, half: Sums) -> float | None:
    """CC1/2 of a half and what is left of all without it."""
    both = (half.n > 0) & (half.n < everything.n)
    one, whole = half.take(both), everything.take(both)
    other = Sums(whole.n - one.n, whole.weight - one.weight, whole.weighted - one.weighted)
    return correlation(one.mean, other.mean)


def correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Pearson correlation; None where fewer than three pairs or no variation define it."""
    if len(first) < 3:
        return None
    x, y = first - first.mean(), second - second.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 0 else None


def r_split(odd: FloatArray, even: FloatArray) -> float | None:
    """R-split of two half data sets: White et al. (2012), J. Appl. Cryst. 45, 335-341."""
    return _ratio(math.sqrt(2.0) * float(np.abs(odd - even).sum()), float(np.abs(odd + even).sum()))


def r_int(odd: FloatArray, even: FloatArray, scale: float) -> float | None:
    """R factor between the absolute intensities of two half data sets, the even one scaled by `scale`."""
    return _ratio(float(np.abs(np.abs(odd) - scale * np.abs(even)).sum()), float(np.abs(odd).sum()))


def _scale(odd: FloatArray, even: FloatArray, weight: FloatArray) -> float | None:
    return _ratio(float((weight * odd * even).sum()), float((weight * even**2).sum()))


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator) / float(denominator) if denominator else None
