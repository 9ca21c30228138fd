"""Checks of merged intensities as a whole: Wilson plot, second moments and L test for twinning."""

from __future__ import annotations

import math

import gemmi
import numpy as np
from pydantic import Field

from exafel.arrays import AnyArray, FloatArray
from exafel.config.base import Model
from exafel.merging.asu import AsymmetricUnit, resolution
from exafel.merging.filters import equal_volume_shells
from exafel.merging.merge import Merged

_N_SHELLS = 20
_PER_SHELL = 10  # fewest reflections that a shell needs
_WILSON_LOW = 4.0  # angstrom; at lower resolution, molecules are not atoms placed at random
_PROTEIN = {"C": 5.0, "N": 1.35, "O": 1.5, "H": 8.0, "S": 0.03}  # atoms a residue, with ordered water
_MIN_PAIRS = 50  # fewest reflections or pairs of them that a moment is taken of
UNTWINNED = {"mean_l": 0.5, "mean_l_squared": 1 / 3, "acentric": 2.0, "centric": 3.0}
TWINNED = {"mean_l": 0.375, "mean_l_squared": 0.2, "acentric": 1.5, "centric": 2.0}


class WilsonShell(Model):
    """One point of the Wilson plot."""

    d_min: float = Field(description="High resolution end, angstrom.")
    inverse_d_squared: float = Field(description="Mean 1/d^2 of its reflections, 1/angstrom^2.")
    ln_ratio: float = Field(description="Logarithm of <I> / (epsilon sum of f^2).")


class Checks(Model):
    """What the distribution of intensities says; None where there is too little to say it from."""

    wilson: tuple[WilsonShell, ...] = Field(description="The Wilson plot.")
    wilson_b: float | None = Field(description="B factor of the Wilson plot beyond 4 A, square angstrom.")
    acentric_moment: float | None = Field(description="<I^2>/<I>^2 of acentric reflections: 2; a perfect twin 1.5.")
    centric_moment: float | None = Field(description="<I^2>/<I>^2 of centric reflections: 3; a perfect twin 2.")
    mean_l: float | None = Field(description="<|L|> (Padilla & Yeates 2003): 0.5; a perfect twin 0.375.")
    mean_l_squared: float | None = Field(description="<L^2>: 1/3; a perfect twin 0.2.")
    n_l: int = Field(description="Pairs of reflections of the L test.")
    twin_fraction: float | None = Field(description="Twin fraction that <|L|> corresponds to.")


def check_intensities(merged: Merged, asu: AsymmetricUnit, cell: gemmi.UnitCell) -> Checks:
    """Look at the distribution of merged intensities.

    Parameters
    ----------
    merged
        Merged reflections.
    asu, cell
        What their keys, and resolutions, are of.
    """
    base, row = np.unique(merged.keys >> 1, return_inverse=True)
    mean = merged.all.add_at(row, len(base))
    hkl = asu.indices(base << 1)
    operations = asu.space_group.operations()
    centric = np.asarray(operations.centric_flag_array(hkl)).astype(bool)
    intensity = mean.mean / np.asarray(operations.epsilon_factor_without_centering_array(hkl))
    d_star_sq = resolution(hkl, cell)
    shell = _shells(d_star_sq)
    wilson = _wilson(d_star_sq, intensity, shell)
    level = _level(d_star_sq, intensity, shell)
    normalized, variance = intensity / level, (mean.sigma / level) ** 2
    mean_l, mean_l_squared, n_l = l_test(hkl[~centric], normalized[~centric])
    return Checks(
        wilson=tuple(wilson),
        wilson_b=_wilson_b(wilson),
        acentric_moment=second_moment(normalized[~centric], variance[~centric]),
        centric_moment=second_moment(normalized[centric], variance[centric]),
        mean_l=mean_l,
        mean_l_squared=mean_l_squared,
        n_l=n_l,
        twin_fraction=None if mean_l is None else twin_fraction(mean_l),
    )


def _shells(d_star_sq: FloatArray) -> AnyArray:
    n = max(min(_N_SHELLS, len(d_star_sq) // _PER_SHELL), 1)
    limits = equal_volume_shells(float(d_star_sq.min()), float(d_star_sq.max()), n)
    return np.clip(np.searchsorted(limits, d_star_sq, side="right") - 1, 0, n - 1)


def _wilson(d_star_sq: FloatArray, intensity: FloatArray, shell: AnyArray) -> list[WilsonShell]:
    """Points of ln(<I>/sum f^2) against 1/d^2; the sum is that of the mean protein, so its level means nothing."""
    elements = [(gemmi.Element(name).it92, number) for name, number in _PROTEIN.items()]
    points = []
    for number in range(int(shell.max()) + 1):
        rows = shell == number
        if np.count_nonzero(rows) < _PER_SHELL or intensity[rows].mean() <= 0:
            continue
        inverse = float(d_star_sq[rows].mean())
        power = sum(n * form.calculate_sf(inverse / 4.0) ** 2 for form, n in elements)
        ratio = math.log(float(intensity[rows].mean()) / power)
        points.append(
            WilsonShell(d_min=float(d_star_sq[rows].max()) ** -0.5, inverse_d_squared=inverse, ln_ratio=ratio)
        )
    return points


def _wilson_b(points: list[WilsonShell]) -> float | None:
    """B of <I> = k sum f^2 exp(-2 B sin^2(theta)/lambda^2), by a line through the points beyond 4 A."""
    beyond = [point for point in points if point.inverse_d_squared > _WILSON_LOW**-2]
    if len(beyond) < 3:
        return None
    slope, _ = np.polyfit([point.inverse_d_squared for point in beyond], [point.ln_ratio for point in beyond], 1)
    return float(-2.0 * slope)


def _level(d_star_sq: FloatArray, intensity: FloatArray, shell: AnyArray) -> FloatArray:
    """Mean intensity at each reflection's resolution: the logarithm of the shells' means, interpolated."""
    n = np.bincount(shell)
    mean = np.bincount(shell, weights=intensity) / np.maximum(n, 1)
    good = (n > 0) & (mean > 0)
    if not good.any():
        return np.ones(len(intensity))
    centre = np.bincount(shell, weights=d_star_sq)[good] / n[good]
    return np.asarray(np.exp(np.interp(d_star_sq, centre, np.log(mean[good]))))


def second_moment(normalized: FloatArray, variance: FloatArray) -> float | None:
    """<I^2>/<I>^2 of intensities without fall-off, the errors' share of <I^2> taken off; None for fewer than 50.

    Parameters
    ----------
    normalized, variance
        Intensities over the mean of their resolution, and their variances, shape (n,).
    """
    if len(normalized) < _MIN_PAIRS or normalized.mean() <= 0:
        return None
    return float((normalized**2 - variance).mean() / normalized.mean() ** 2)


def l_test(hkl: AnyArray, intensity: FloatArray) -> tuple[float | None, float | None, int]:
    """<|L|>, <L^2> and number of pairs, with L = (I1 - I2)/(I1 + I2): Padilla & Yeates (2003), Acta Cryst. D59, 1124.

    Pairs are acentric neighbours two indices apart along one axis, which have nothing to do with each other whatever
    translation the structure may have.

    Parameters
    ----------
    hkl, intensity
        Acentric reflections, shape (n, 3), and their intensities without the fall-off with resolution, shape (n,).
    """
    keys = _packed(hkl)
    order = np.argsort(keys)
    keys, value = keys[order], intensity[order]
    ratios = []
    for axis in np.eye(3, dtype=np.int64):
        wanted = _packed(hkl[order] + 2 * axis)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1) if len(keys) else wanted
        paired = np.flatnonzero(keys[place] == wanted) if len(keys) else wanted
        one, other = value[paired], value[place[paired]]
        good = (one > 0) & (other > 0)
        ratios.append((one[good] - other[good]) / (one[good] + other[good]))
    ratio = np.concatenate(ratios)
    if len(ratio) < _MIN_PAIRS:
        return None, None, len(ratio)
    return float(np.abs(ratio).mean()), float((ratio**2).mean()), len(ratio)


def twin_fraction(mean_l: float) -> float:
    """Twin fraction, from 0 to 0.5, at which acentric reflections without errors have this <|L|>."""
    fractions = np.linspace(0.0, 0.5, 26)
    curve = [0.5, *(_mean_l_of_twin(float(fraction)) for fraction in fractions[1:-1]), 0.375]
    return float(np.interp(-mean_l, -np.array(curve), fractions))


def _mean_l_of_twin(fraction: float) -> float:
    """<|L|> of acentric twins: an intensity is the sum of two exponentials of means 1-a and a.

    Its density is a mixture of these two exponentials with weights (1-a)/(1-2a) and -a/(1-2a). Of two exponentials of
    rates k and 1, x = J1/(J1 + J2) has the density k/(1 + (k - 1) x)^2, over which |L| = |2x - 1| is averaged.
    """
    means = (1.0 - fraction, fraction)
    weights = (means[0] / (1.0 - 2.0 * fraction), -means[1] / (1.0 - 2.0 * fraction))
    x = (np.arange(4000) + 0.5) / 4000
    result = 0.0
    for one, first in zip(means, weights, strict=True):
        for other, second in zip(means, weights, strict=True):
            k = other / one
            result += first * second * float(np.mean(np.abs(2 * x - 1) * k / (1 + (k - 1) * x) ** 2))
    return result


def _packed(hkl: AnyArray) -> AnyArray:
    index = np.asarray(hkl, dtype=np.int64) + 2048
    return (index[:, 0] << 24) | (index[:, 1] << 12) | index[:, 2]
