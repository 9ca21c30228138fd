"""Sums and profile fits merged, against the counts that pixels were made with."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy import stats

from exafel.config.integration import IntegrationConfig
from exafel.config.merge import MergeConfig
from exafel.errors import InputError
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.mtz import ReferenceData, read_mtz
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.parallel.comm import SerialComm
from exafel.steps import merge as step
from exafel.steps.merge import MergeSummary
from exafel.stills.integration import integrate
from exafel.stills.profile import SpotProfile

CELL = (40.0, 50.0, 60.0, 90.0, 90.0, 90.0)
GROUP = gemmi.SpaceGroup("P 2 2 2")
UNIQUE = gemmi.make_miller_array(gemmi.UnitCell(*CELL), GROUP, 4.0)[:400]
TRUE = 60.0 * np.random.default_rng(3).exponential(size=len(UNIQUE))
SIZE, STEP = 480, 24
SPOTS = np.stack(np.meshgrid(*[np.arange(STEP, SIZE - STEP + 1, STEP)] * 2), axis=-1).reshape(-1, 2).astype(float)
BEAM = Beam(1.3)
DETECTOR = Detector((Panel("p", [-24.0, 24.0, -100.0], [1, 0, 0], [0, -1, 0], (0.1, 0.1), (SIZE, SIZE)),))
INSIDE = 1 - np.exp(-4.5)
"""Of a Gaussian, what lies within three standard deviations."""


def lattice(number: int) -> ReflectionTable:
    """Reflections of one shot, integrated from Poisson counts: Gaussian spots of the true intensities on 6 photons."""
    rng = np.random.default_rng(300 + number)
    xy = SPOTS + rng.uniform(-0.5, 0.5, SPOTS.shape)
    chosen = rng.choice(len(UNIQUE), len(xy), replace=False)
    image = np.full((SIZE, SIZE), 6.0)
    for (x, y), total in zip(xy, TRUE[chosen], strict=True):
        left, top = int(x) - 8, int(y) - 8
        along, down = (np.diff(stats.norm.cdf(np.arange(18) + first, at)) for first, at in ((left, x), (top, y)))
        image[top : top + 17, left : left + 17] += total * np.outer(down, along)
    n = len(xy)
    predicted = ReflectionTable(
        {
            "id": np.full(n, number, dtype=np.int32),
            "panel": np.zeros(n, dtype=np.uint64),
            "flags": np.full(n, Flag.PREDICTED, dtype=np.uint64),
            "miller_index": UNIQUE[chosen].astype(np.int32),
            "s1": np.tile([0.0, 0.0, -1.0], (n, 1)),
            "xyzcal.px": np.column_stack([xy, np.full(n, 0.5)]),
        }
    )
    profile = SpotProfile(np.sqrt(13 / 12), np.sqrt(13 / 12))
    config, good = IntegrationConfig(profile_fitting=True), [np.ones(image.shape, dtype=bool)]
    return integrate([rng.poisson(image)], good, predicted, profile, DETECTOR, BEAM, config, gain=1.0)


def experiment(number: int) -> Experiment:
    crystal = Crystal(orthogonalization(CELL).T * (1.0 + 1e-5 * number), GROUP.hall)
    return Experiment(f"made-{number:03d}", BEAM, DETECTOR, ImageRef(Path("/data/made.h5"), number), crystal)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one pair of files with sixteen lattices."""
    folder = tmp_path_factory.mktemp("stills")
    experiments, tables = [experiment(number) for number in range(16)], [lattice(number) for number in range(16)]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    write_expt(folder / "made_integrated.expt", ExperimentList(experiments))
    names = {number: item.identifier for number, item in enumerate(experiments)}
    write_refl(folder / "made_integrated.refl", ReflectionTable(columns, names))
    return folder


def merged(stills: Path, out: Path, **options: object) -> tuple[MergeSummary, ReferenceData]:
    common = {"d_min": 3.9, "significance_filter": {"enabled": False}, "scaling": {"algorithm": "mark1"}}
    config = MergeConfig.model_validate({**common, "merge_anomalous": True, "error": {"model": "none"}, **options})
    summary = step.run(step.request(config, [stills], out), SerialComm())
    return summary, read_mtz(out / "merged.mtz", "I")


def errors(data: ReferenceData) -> tuple[np.ndarray, np.ndarray]:
    """Differences from the truth of the reflections that were merged, in counts and in their standard errors."""
    place = {tuple(hkl): number for number, hkl in enumerate(UNIQUE.tolist())}
    truth = INSIDE * TRUE[[place[tuple(hkl)] for hkl in data.hkl.tolist()]]
    difference = data.value - truth
    return difference, difference / data.sigma


def test_profile_fits_merge_to_the_truth_and_nearer_than_sums(stills: Path, tmp_path: Path) -> None:
    summed, sums = merged(stills, tmp_path / "sums")
    fitted, fits = merged(stills, tmp_path / "fits", intensities="profile")
    assert fitted.n_unique == summed.n_unique > 390
    by_sum, by_fit = errors(sums)[0], errors(fits)[0]
    assert by_fit.std() < 0.85 * by_sum.std()
    for difference in (by_sum, by_fit):  # weights from counted variances take up to one photon
        assert difference.mean() == pytest.approx(-1, abs=4 * difference.std() / np.sqrt(len(difference)))
    for data in (sums, fits):
        pulls = errors(data)[1]
        assert pulls.std() == pytest.approx(1.0, abs=0.2)
    assert fitted.cc_half > summed.cc_half


def test_a_reflection_without_a_profile_fit_is_left_out(stills: Path, tmp_path: Path) -> None:
    table = read_refl(stills / "made_integrated.refl")
    lost = np.arange(len(table)) % 5 == 0
    table["flags"] = np.where(lost, table["flags"] & ~np.uint64(Flag.INTEGRATED_PRF), table["flags"])
    table["intensity.prf.value"] = np.where(lost, 1e6, table["intensity.prf.value"])
    (tmp_path / "in").mkdir()
    write_refl(tmp_path / "in" / "made_integrated.refl", table)
    (tmp_path / "in" / "made_integrated.expt").write_bytes((stills / "made_integrated.expt").read_bytes())
    everything, _ = merged(stills, tmp_path / "all", intensities="profile")
    left, data = merged(tmp_path / "in", tmp_path / "left", intensities="profile")
    assert left.n_observations_read == everything.n_observations_read - lost.sum()
    assert np.abs(errors(data)[0]).max() < 200


def test_profile_fits_that_were_not_made_are_one_line(stills: Path, tmp_path: Path) -> None:
    table = read_refl(stills / "made_integrated.refl")
    del table["intensity.prf.value"]
    (tmp_path / "in").mkdir()
    write_refl(tmp_path / "in" / "made_integrated.refl", table)
    (tmp_path / "in" / "made_integrated.expt").write_bytes((stills / "made_integrated.expt").read_bytes())
    with pytest.raises(InputError, match=r"made_integrated\.refl: no column intensity\.prf\.value .*profile_fitting"):
        merged(tmp_path / "in", tmp_path / "out", intensities="profile")
