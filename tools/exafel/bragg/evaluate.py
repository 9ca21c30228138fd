"""How well merged intensities agree with the structure factors that the images were simulated from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.structure_factors import StructureFactorTable


@dataclass(frozen=True)
class ShellAgreement:
    """Agreement with the truth in one shell of resolution; `cc` is NaN where it is not defined."""

    d_max: float
    d_min: float
    n: int
    cc: float


def correlation(x: FloatArray, y: FloatArray) -> float:
    """Pearson's correlation coefficient; NaN for fewer than three values or values that do not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def intensity_agreement(
    hkl: AnyArray, intensity: FloatArray, d: FloatArray, truth: StructureFactorTable, n_shells: int
) -> list[ShellAgreement]:
    """Correlation of intensities with true squared structure factors, overall and by shells of equal counts.

    Parameters
    ----------
    hkl, intensity, d
        Indices (n, 3), merged intensities of both Bijvoet mates together (n,) and resolution (n,), angstrom.
    truth
        True |F|^2; reflections that it does not have are left out.
    n_shells
        Number of shells; fewer where there are fewer reflections.

    Returns
    -------
    list of ShellAgreement
        The first is over all reflections, then shells from low to high resolution; empty where nothing is common.
    """
    expected = (truth.lookup(hkl) + truth.lookup(-np.asarray(hkl))) / 2
    common = np.flatnonzero((expected > 0) & np.isfinite(intensity))
    if not len(common):
        return []
    ordered = common[np.argsort(-d[common], kind="stable")]
    parts = [ordered, *(part for part in np.array_split(ordered, n_shells) if len(part))]
    return [
        ShellAgreement(float(d[part[0]]), float(d[part[-1]]), len(part), correlation(intensity[part], expected[part]))
        for part in parts
    ]
