"""Real DIALS programs work on the experiments, reflections and MTZ files that this package writes.

Whether they did is told from the files that they left, not from exit codes: some exit 0 with nothing done.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.io.crystal import space_group
from exafel.io.experiment import ExperimentList
from exafel.io.expt import read_expt, write_expt
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import Flag

pytestmark = [pytest.mark.data, pytest.mark.dials, pytest.mark.slow]


@pytest.fixture(scope="module")
def written(shared_data, tmp_path_factory) -> Path:
    """Thaumatin stills in P41212 as a scaled data set: the columns without which dials.merge and dials.export stop."""
    folder = tmp_path_factory.mktemp("written")
    source = shared_data / "dials_thaumatin" / "idx-0000_integrated.expt"
    hall = space_group("P 41 21 2").hall
    listed = [
        replace(item, crystal=replace(item.crystal, space_group_hall=hall))
        for item in read_expt(source)
        if item.crystal is not None
    ]
    write_expt(folder / "a.expt", ExperimentList(listed))
    table = read_refl(source.with_suffix(".refl"))
    table["intensity.scale.value"] = table["intensity.sum.value"]
    table["intensity.scale.variance"] = table["intensity.sum.variance"]
    table["inverse_scale_factor"] = np.ones(len(table))
    table["inverse_scale_factor_variance"] = np.zeros(len(table))
    table["flags"] = table["flags"] | np.uint64(Flag.SCALED)
    write_refl(folder / "a.refl", table)
    return folder


def run(dials: Path, folder: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [dials / program, folder / "a.expt", folder / "a.refl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_dials_show(dials, written):
    said = run(dials, written, "dials.show")
    assert said.count("Experiment identifier: ") == 15
    assert "Half mosaic angle (degrees):" in said
    assert "P 41 21 2" in said
    assert "33470" in said


def test_dials_report(dials, written):
    run(dials, written, "dials.report", "output.html=report.html")
    report = (written / "report.html").read_text()
    assert "cc_one_half" in report
    assert len(report) > 100_000


def test_dials_export(dials, written):
    run(dials, written, "dials.export", "format=mtz", "intensity=scale", "mtz.hklout=exported.mtz")
    mtz = gemmi.read_mtz_file(str(written / "exported.mtz"))
    assert mtz.spacegroup.hm == "P 41 21 2"
    assert mtz.nreflections > 33_000


def test_dials_merge_gives_the_mean_that_we_compute(dials, written):
    run(dials, written, "dials.merge", "output.mtz=merged.mtz", "anomalous=False")
    mtz = gemmi.read_mtz_file(str(written / "merged.mtz"))
    theirs = np.array(mtz, copy=True)
    label = {column.label: column.idx for column in mtz.columns}
    by_hkl = {
        tuple(row[:3].astype(int).tolist()): (row[label["IMEAN"]], row[label["SIGIMEAN"]])
        for row in theirs
        if np.isfinite(row[label["IMEAN"]])
    }
    table = read_refl(written / "a.refl")
    operations, asu = mtz.spacegroup.operations(), gemmi.ReciprocalAsu(mtz.spacegroup)
    sums: dict[tuple[int, ...], np.ndarray] = {}
    for hkl, value, variance in zip(
        table["miller_index"].tolist(), table["intensity.scale.value"], table["intensity.scale.variance"], strict=True
    ):
        key = tuple(asu.to_asu(hkl, operations)[0])
        if variance > 0:
            sums[key] = sums.get(key, np.zeros(2)) + np.array([value / variance, 1 / variance])
    common = set(by_hkl) & set(sums)
    assert len(common) > 2500
    ours = np.array([sums[hkl] for hkl in sorted(common)])
    mean, sigma = np.array([by_hkl[hkl] for hkl in sorted(common)]).T
    np.testing.assert_allclose(ours[:, 0] / ours[:, 1], mean, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(ours[:, 1] ** -0.5, sigma, rtol=1e-4)
