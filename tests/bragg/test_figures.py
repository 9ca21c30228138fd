"""Figures of merit on data whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pixel_shots import amplitudes, beam, crystal, detector, reflections

from exafel.bragg.figures import amplitude_shells, anomalous_peaks, bijvoet_pairs, offset_shells, split_offsets
from exafel.errors import InputError
from exafel.io.experiment import Experiment, ImageRef
from exafel.io.reflections import ReflectionTable
from exafel.io.structure import structure_factors


def test_offsets_are_split_along_and_across_the_radius() -> None:
    rng = np.random.default_rng(0)
    geometry = detector()
    xy = rng.uniform(10, 290, (4000, 2))
    outwards = xy - 150.0  # the beam meets the middle of the panel
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    across = np.column_stack([-outwards[:, 1], outwards[:, 0]])
    moved = xy + 0.6 * rng.standard_normal((4000, 1)) * outwards + 0.2 * rng.standard_normal((4000, 1)) * across
    columns = {"panel": np.zeros(4000, dtype=np.uint64)}
    columns |= {
        name: np.column_stack([place, np.zeros(4000)])
        for name, place in (("xyzcal.px", xy), ("xyzobs.px.value", moved))
    }
    experiment = Experiment("1", beam(), geometry, ImageRef(Path("x")), crystal(1))
    shells = offset_shells(split_offsets(experiment, ReflectionTable(columns)), 4)
    assert sum(shell.n for shell in shells) == pytest.approx(0.99 * 4000, abs=2)
    assert np.mean([shell.radial_px for shell in shells]) == pytest.approx(0.58, abs=0.03)
    assert np.mean([shell.transverse_px for shell in shells]) == pytest.approx(0.2, abs=0.02)
    assert shells[0].d_max > shells[-1].d_min


def test_amplitudes_against_the_truth() -> None:
    known = reflections()
    F = amplitudes(known)
    truth = known.table(F)
    (whole, *shells) = amplitude_shells(known.hkl, 3 * F, known.d, truth, 5)
    assert (whole.cc, whole.cc_anomalous) == (1, 1)
    assert whole.r_factor == pytest.approx(0, abs=1e-9)
    assert sum(shell.n for shell in shells) == whole.n == len(known)
    assert whole.n_anomalous == np.sum(known.mate > np.arange(len(known)))
    noise = np.random.default_rng(1).standard_normal(len(F))
    (noisy, *_) = amplitude_shells(known.hkl, F * (1 + 0.1 * noise), known.d, truth, 5)
    assert noisy.r_factor == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.08)
    assert noisy.cc_anomalous < 0.6 < noisy.cc
    plus, minus = bijvoet_pairs(known.hkl)
    assert np.array_equal(known.hkl[plus], -known.hkl[minus])


def test_the_anomalous_map_peaks_at_the_heavy_atom(tmp_path: Path) -> None:
    lines = ["CRYST1   30.000   32.000   35.000  90.00  90.00  90.00 P 21 21 21    4"]
    rng = np.random.default_rng(5)
    for number in range(40):
        x, y, z = rng.uniform(0, 30, 3)
        name, element = ("ZN", "ZN") if number == 7 else ("C", "C")
        lines.append(
            f"ATOM  {number + 1:5d}  {name:<3s} ALA A{number + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 12.00          "
            f"{element:>2s}"
        )
    model = tmp_path / "m.pdb"
    model.write_text("\n".join([*lines, "END", ""]))
    hkl, F = structure_factors(model, 2.5, 1.2, solvent=False)
    (peak,) = anomalous_peaks(hkl, np.abs(F), model, 2.5, ("Zn",))
    assert peak.site.startswith("A/")
    assert peak.sigmas > 10
    (none,) = anomalous_peaks(hkl, np.random.default_rng(0).gamma(2, 10, len(hkl)), model, 2.5, ("Zn",))
    assert abs(none.sigmas) < 5
    assert anomalous_peaks(hkl, np.abs(F), model, 2.5, ("ZN",)) == (peak,)
    with pytest.raises(InputError, match=r"no atom of Hg; there are C, Zn"):
        anomalous_peaks(hkl, np.abs(F), model, 2.5, ("Hg",))
