"""Figures of merit that ExaFEL judged its results by: A prediction offsets, D amplitudes and E anomalous differences.

B (CC1/2 and R-split) are the merge step's, C is sigma(Z) of stages 1 and 2.
"""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import AnyArray, FloatArray, IntArray
from exafel.bragg.evaluate import correlation
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.base import Model
from exafel.errors import InputError
from exafel.io.experiment import Experiment
from exafel.io.reflections import ReflectionTable
from exafel.io.structure import read_structure, structure_factors


class OffsetShell(Model):
    """Figure A: root mean square offsets of observed from modelled spots in one shell, pixels."""

    d_max: float
    d_min: float
    n: int
    radial_px: float
    transverse_px: float


class AmplitudeShell(Model):
    """Figures D and E: amplitudes and Bijvoet differences against the truth; None where they are not defined."""

    d_max: float
    d_min: float
    n: int
    r_factor: float | None
    cc: float | None
    n_anomalous: int
    cc_anomalous: float | None


class AnomalousPeak(Model):
    """Figure E: height of the anomalous difference map at a heavy atom."""

    site: str
    sigmas: float


def split_offsets(experiment: Experiment, spots: ReflectionTable) -> FloatArray:
    """Radial and transverse offset of observed from modelled spots, and resolution, shape (n, 3): pixels, angstrom.

    Radial is away from the beam. Spots whose model has no photons are left out.
    """
    beam, rows = experiment.beam, []
    for number in np.unique(spots["panel"]):
        panel = experiment.detector[int(number)]
        chosen = spots["panel"] == number
        observed, modelled = (spots[name][chosen, :2] for name in ("xyzobs.px.value", "xyzcal.px"))
        known = np.isfinite(modelled).all(axis=1)
        observed, modelled = observed[known], modelled[known]
        lab = panel.pixel_to_lab(modelled)
        s0 = beam.s0 * beam.wavelength_angstrom
        outwards = lab / np.linalg.norm(lab, axis=1, keepdims=True) - s0
        radial = np.column_stack([outwards @ panel.fast_axis, outwards @ panel.slow_axis])
        radial /= np.maximum(np.linalg.norm(radial, axis=1, keepdims=True), 1e-12)
        offset = observed - modelled
        along = np.sum(offset * radial, axis=1)
        across = offset[:, 1] * radial[:, 0] - offset[:, 0] * radial[:, 1]
        d = 1 / np.maximum(np.linalg.norm(beam.reciprocal(lab), axis=1), 1e-9)
        rows.append(np.column_stack([along, across, d]))
    return np.concatenate([np.empty((0, 3)), *rows])


def offset_shells(offsets: FloatArray, n_shells: int) -> tuple[OffsetShell, ...]:
    """Figure A by shells of equal counts, low resolution first; the worst percent of spots is left out."""
    if not len(offsets):
        return ()
    size = np.hypot(offsets[:, 0], offsets[:, 1])
    kept = offsets[size <= np.percentile(size, 99)]
    ordered = kept[np.argsort(-kept[:, 2], kind="stable")]
    parts = [part for part in np.array_split(ordered, n_shells) if len(part)]
    return tuple(
        OffsetShell(
            d_max=float(part[0, 2]),
            d_min=float(part[-1, 2]),
            n=len(part),
            radial_px=round(float(np.sqrt(np.mean(part[:, 0] ** 2))), 5),
            transverse_px=round(float(np.sqrt(np.mean(part[:, 1] ** 2))), 5),
        )
        for part in parts
    )


def amplitude_shells(
    hkl: AnyArray, amplitude: FloatArray, d: FloatArray, truth: StructureFactorTable, n_shells: int
) -> tuple[AmplitudeShell, ...]:
    """Figures D and E: over all reflections, then by shells of equal counts from low to high resolution.

    Parameters
    ----------
    hkl, amplitude, d
        Indices (n, 3), Bijvoet mates as reflections of their own, |F| and resolution (angstrom), shape (n,).
    truth
        True |F|^2.

    Notes
    -----
    Amplitudes are brought to the truth's scale by the ratio that minimizes their squared difference, once for all. The
    R factor is sum |F - F_true| / sum F_true.
    """
    true = np.sqrt(truth.lookup(hkl))
    common = np.flatnonzero((true > 0) & np.isfinite(amplitude))
    if not len(common):
        return ()
    hkl, true, d = np.asarray(hkl)[common], true[common], d[common]
    F = amplitude[common] * float(np.sum(amplitude[common] * true) / np.sum(amplitude[common] ** 2))
    plus, minus = bijvoet_pairs(hkl)
    order = np.argsort(-d, kind="stable")
    parts = [order, *(part for part in np.array_split(order, n_shells) if len(part))]
    return tuple(_shell(part, F, true, d, plus, minus) for part in parts)


def _shell(
    part: IntArray, F: FloatArray, true: FloatArray, d: FloatArray, plus: IntArray, minus: IntArray
) -> AmplitudeShell:
    inside = np.zeros(len(F), dtype=bool)
    inside[part] = True
    pair = inside[plus] & inside[minus]
    first, second = plus[pair], minus[pair]
    return AmplitudeShell(
        d_max=float(d[part].max()),
        d_min=float(d[part].min()),
        n=len(part),
        r_factor=round(float(np.sum(np.abs(F[part] - true[part])) / np.sum(true[part])), 6),
        cc=_or_none(correlation(F[part], true[part])),
        n_anomalous=len(first),
        cc_anomalous=_or_none(correlation(F[first] - F[second], true[first] - true[second])),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def bijvoet_pairs(hkl: AnyArray) -> tuple[IntArray, IntArray]:
    """Rows of reflections h and -h that are both there, each pair once: the first is the one listed first."""
    rows = {tuple(index): number for number, index in enumerate(np.asarray(hkl).tolist())}
    pairs = [(number, rows[_minus(index)]) for index, number in rows.items() if rows.get(_minus(index), -1) > number]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _minus(index: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-value for value in index)


def anomalous_peaks(
    hkl: AnyArray, amplitude: FloatArray, model: Path, d_min: float, elements: tuple[str, ...]
) -> tuple[AnomalousPeak, ...]:
    """Heights of the anomalous difference map at atoms of a model, in standard deviations of the map.

    The map has the coefficients (|F(h)| - |F(-h)|) exp(i (phi - 90 degrees)) with the model's phases (Strahs & Kraut
    1968, J. Mol. Biol. 35, 503).

    Parameters
    ----------
    hkl, amplitude
        As in `amplitude_shells`.
    model
        PDB or mmCIF file.
    d_min
        Resolution of the map, angstrom.
    elements
        Symbols of the elements whose atoms are looked at, in any case of letters.

    Returns
    -------
    One an atom; none where no Bijvoet pair differs.

    Raises
    ------
    InputError
        The model has no atom of these elements.
    """
    structure = read_structure(model)
    wanted = {element.upper() for element in elements}
    sites = [site for site in structure[0].all() if site.atom.element.name.upper() in wanted]
    if not sites:
        there = sorted({site.atom.element.name for site in structure[0].all()})
        raise InputError(
            f"no atom of {', '.join(elements)}; there are {', '.join(there)}",
            where=model,
            hint="name others in evaluate.anomalous_elements",
        )
    indices, F = structure_factors(model, d_min)
    phases = dict(zip(map(tuple, indices.tolist()), np.degrees(np.angle(F)), strict=True))
    hkl = np.asarray(hkl)
    plus, minus = bijvoet_pairs(hkl)
    rows = []
    for first, second in zip(plus, minus, strict=True):
        index, sign = tuple(hkl[first].tolist()), 1.0
        if index not in phases:
            index, sign = tuple(hkl[second].tolist()), -1.0
        if index in phases:
            rows.append([*index, sign * (amplitude[first] - amplitude[second]), phases[index] - 90.0])
    if not rows:
        return ()
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup, mtz.cell = structure.find_spacegroup(), structure.cell
    mtz.add_dataset("anomalous")
    mtz.add_column("DANO", "F")
    mtz.add_column("PHI", "P")
    mtz.set_data(np.array(rows, dtype=np.float32))
    grid = mtz.transform_f_phi_to_map("DANO", "PHI", sample_rate=3.0)
    values = np.asarray(grid.array)
    spread = float(values.std())
    if spread == 0:
        return ()  # no pair differs
    return tuple(
        AnomalousPeak(
            site=f"{site.chain.name}/{site.residue.name} {site.residue.seqid}/{site.atom.name}",
            sigmas=round(float((grid.interpolate_value(site.atom.pos) - values.mean()) / spread), 3),
        )
        for site in sites
    )
