"""The merge step from files to files: against cctbx.xfel.merge, on made lattices, and on any number of ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.cli import main
from exafel.config.cells import CellsConfig
from exafel.config.merge import MergeConfig
from exafel.config.workflow import load_workflow_config
from exafel.errors import ConfigError, InputError, NothingUsableError
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.mtz import MergedData, read_mtz, write_mtz
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.inputs import find_pairs
from exafel.parallel.comm import SerialComm
from exafel.parallel.local import run_local
from exafel.steps import cells
from exafel.steps import merge as step
from exafel.steps.merge import MergeSummary

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "workflows" / "config" / "examples" / "thaumatin_merge_as_peer.yaml"

CELL = (40.0, 40.0, 60.0, 90.0, 90.0, 90.0)
GROUP = gemmi.SpaceGroup("P 43 21 2")
UNIQUE = gemmi.make_miller_array(gemmi.UnitCell(*CELL), GROUP, 2.5)
TRUE = 400.0 * np.random.default_rng(1).exponential(size=len(UNIQUE))
PANEL = Panel(
    "panel", np.array([-100.0, 100.0, -200.0]), np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), (0.1, 0.1), (2000, 2000)
)
N_LATTICES = 30


def lattice(number: int, *, cell: tuple[float, ...] = CELL, hall: str = GROUP.hall, n: int = 400):
    """One lattice with the true intensities on a scale of its own, noise, and equivalents of random hand."""
    rng = np.random.default_rng(1000 + number)
    chosen = rng.choice(len(UNIQUE), n, replace=False)
    scale = 2.0 ** rng.normal(0, 0.3)
    operations = GROUP.operations().sym_ops
    hkl = [
        operations[op].apply_to_hkl(index)
        for op, index in zip(rng.integers(8, size=n), UNIQUE[chosen].tolist(), strict=True)
    ]
    table = ReflectionTable(
        {
            "miller_index": (np.array(hkl) * rng.choice([-1, 1], (n, 1))).astype(np.int32),
            "s1": np.tile([0.0, 0.0, -1.0], (n, 1)),  # along the beam, where polarization does nothing
            "intensity.sum.value": scale * (TRUE[chosen] + rng.normal(0, 20.0, n)),
            "intensity.sum.variance": np.full(n, (scale * 20.0) ** 2),
            "flags": np.full(n, int(Flag.INTEGRATED_SUM), dtype=np.uint64),
        }
    )
    image = ImageRef(Path("/data/made.h5"), number)
    crystal = Crystal(orthogonalization(cell).T * (1.0 + 1e-5 * number), hall)
    return Experiment(f"made-{number:03d}", Beam(1.3), Detector((PANEL,)), image, crystal), table


def write_pair(folder: Path, name: str, lattices: list[tuple[Experiment, ReflectionTable]]) -> None:
    tables = []
    for number, (experiment, table) in enumerate(lattices):
        columns = {**table.columns, "id": np.full(len(table), number, dtype=np.int32)}
        tables.append(ReflectionTable(columns))
        tables[-1].identifiers = {number: experiment.identifier}
    rows = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    identifiers = {number: experiment.identifier for number, (experiment, _) in enumerate(lattices)}
    write_expt(folder / f"{name}_integrated.expt", ExperimentList([experiment for experiment, _ in lattices]))
    write_refl(folder / f"{name}_integrated.refl", ReflectionTable(rows, identifiers))


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three pairs of files with ten lattices each."""
    folder = tmp_path_factory.mktemp("stills")
    for part in range(3):
        write_pair(folder, f"idx-{part:04d}", [lattice(number) for number in range(part, N_LATTICES, 3)])
    return folder


CONFIG = MergeConfig.model_validate({"d_min": 2.5, "merge_anomalous": True})


def merged(stills: Path, out: Path, config: MergeConfig = CONFIG) -> MergeSummary:
    return step.run(step.request(config, [stills], out), SerialComm())


def results(out: Path) -> tuple[bytes, bytes]:
    return (out / "merged.mtz").read_bytes(), (out / "statistics.json").read_bytes()


@pytest.mark.data
def test_the_numbers_are_those_of_cctbx_xfel_merge(shared_data: Path, tmp_path: Path) -> None:
    config = load_workflow_config(EXAMPLE).merge
    summary = step.run(step.request(config, [shared_data / "dials_thaumatin"], tmp_path), SerialComm())
    assert (summary.n_observations_read, summary.n_obs, summary.n_unique) == (33_470, 20_816, 2_338)
    assert f"{100 * summary.cc_half:.1f} {100 * summary.r_split:.1f} {100 * summary.r_int:.1f}" == "97.2 23.4 22.7"
    assert f"{summary.half_scale:.3f}" == "1.185"
    assert f"{summary.sdfac:.2f} {summary.sdb:.2f} {summary.sdadd:.2f}" == "1.20 0.82 0.65"
    assert sum(shell.n_possible for shell in summary.shells) == 18_680
    theirs = read_mtz(shared_data / "dials_thaumatin" / "merged_by_peer.mtz", "Iobs")
    ours = read_mtz(tmp_path / "merged.mtz", "I")
    values = {tuple(index): (i, s) for index, i, s in zip(ours.hkl.tolist(), ours.value, ours.sigma, strict=True)}
    ours_there = np.array([values[tuple(index)] for index in theirs.hkl.tolist()])
    np.testing.assert_allclose(ours_there[:, 0], theirs.value, rtol=3e-6)
    np.testing.assert_allclose(ours_there[:, 1], theirs.sigma, rtol=3e-6)


@pytest.mark.data
def test_shells_are_those_of_cctbx_xfel_merge_for_another_split(shared_data: Path, tmp_path: Path) -> None:
    """Tables that program printed in a run with PYTHONHASHSEED=0, which fixes its split."""
    config = load_workflow_config(EXAMPLE).merge.model_dump()
    experiments = read_expt(shared_data / "dials_thaumatin" / "idx-0000_integrated.expt")
    odd = [experiments[number].identifier for number in (3, 5, 6, 7, 8, 11, 13)]
    config["statistics"]["halves"] = {"method": "listed", "odd": odd}
    request = step.request(MergeConfig.model_validate(config), [shared_data / "dials_thaumatin"], tmp_path)
    shells = step.run(request, SerialComm()).shells
    assert [s.n_possible for s in shells] == [2048, 1905, 1887, 1862, 1843, 1833, 1823, 1843, 1811, 1825]
    assert [s.n_unique for s in shells] == [400, 257, 237, 229, 207, 217, 193, 210, 198, 190]
    assert [s.n_obs for s in shells] == [4129, 2574, 2248, 1871, 1727, 1863, 1659, 1718, 1545, 1482]
    assert [round(s.mean_i) for s in shells] == [1091, 1135, 581, 361, 286, 189, 188, 138, 94, 82]
    assert [round(s.mean_i_over_sigma, 3) for s in shells] == pytest.approx(
        [3.294, 3.660, 3.250, 2.715, 2.582, 2.572, 2.623, 2.270, 1.962, 2.019], abs=0.0011
    )
    assert [round(s.unmerged_i_over_sigma, 3) for s in shells] == pytest.approx(
        [18.989, 20.443, 12.900, 9.219, 7.354, 5.617, 5.589, 4.049, 3.003, 2.766], abs=0.0011
    )
    assert [s.n_half for s in shells] == [344, 222, 197, 171, 168, 175, 170, 160, 154, 143]
    assert [s.cc_half for s in shells] == pytest.approx(
        [0.950684, 0.873429, 0.914852, 0.868636, 0.734342, 0.890387, 0.905083, 0.946789, 0.842507, 0.856804], abs=2e-6
    )
    assert [round(100 * s.r_int, 1) for s in shells] == [32.8, 31.6, 30.3, 30.9, 42.8, 30.1, 33.3, 34.4, 41.6, 38.0]
    assert [round(100 * s.r_split, 1) for s in shells] == [22.7, 22.3, 21.7, 22.6, 33.3, 22.5, 24.8, 24.9, 32.5, 28.8]
    assert [round(s.half_scale, 3) for s in shells] == [
        0.904, 0.925, 0.969, 0.897, 0.973, 0.930, 0.904, 0.948, 0.891, 0.829
    ]  # fmt: skip


def test_made_lattices_give_the_true_intensities(stills: Path, tmp_path: Path) -> None:
    summary = merged(stills, tmp_path)
    assert (summary.n_lattices, summary.n_accepted, summary.reasons) == (30, 30, {})
    assert summary.space_group == "P 43 21 2"
    assert summary.cell == pytest.approx(CELL, rel=1e-3)
    assert summary.wavelength_angstrom == pytest.approx(1.3)
    data = read_mtz(tmp_path / "merged.mtz", "I")
    true = {tuple(index): value for index, value in zip(UNIQUE.tolist(), TRUE, strict=True)}
    expected = np.array([true[tuple(index)] for index in data.hkl.tolist()])
    assert summary.n_unique == len(data.hkl)
    assert np.corrcoef(data.value, expected)[0, 1] > 0.98
    assert summary.cc_half > 0.9
    stored = json.loads((tmp_path / "statistics.json").read_text())
    assert stored["n_unique"] == summary.n_unique
    assert len(stored["shells"]) == CONFIG.statistics.n_bins


def test_scaling_to_a_reference_finds_each_scale(stills: Path, tmp_path: Path) -> None:
    reference = tmp_path / "truth.mtz"
    ones = np.ones(len(TRUE))
    write_mtz(reference, MergedData(UNIQUE, CELL, "P 43 21 2", 1.3, TRUE, ones, ones))
    scaling = {"algorithm": "mark0", "model": str(reference)}
    config = MergeConfig.model_validate({**CONFIG.model_dump(), "scaling": scaling})
    plain, scaled = merged(stills, tmp_path / "plain"), merged(stills, tmp_path / "scaled", config)
    assert scaled.cc_iso > 0.999
    assert scaled.mean_correlation > 0.99
    assert scaled.r_split < 0.5 * plain.r_split
    data = read_mtz(tmp_path / "scaled" / "merged.mtz", "I")
    assert np.mean(data.value) == pytest.approx(TRUE.mean(), rel=0.02)


def test_bijvoet_mates_are_kept_apart_or_merged(stills: Path, tmp_path: Path) -> None:
    apart = MergeConfig.model_validate({**CONFIG.model_dump(), "merge_anomalous": False})
    together, separate = merged(stills, tmp_path / "a"), merged(stills, tmp_path / "b", apart)
    assert separate.n_unique > 1.3 * together.n_unique
    mtz = gemmi.read_mtz_file(str(tmp_path / "b" / "merged.mtz"))
    columns = {column.label: np.array(column) for column in mtz.columns}
    plus, minus = columns["I(+)"], columns["I(-)"]
    centric = np.array([GROUP.operations().is_reflection_centric(index) for index in mtz.make_miller_array().tolist()])
    assert np.isnan(minus[centric]).all()
    both = np.isfinite(plus) & np.isfinite(minus)
    weights = columns["SIGI(+)"] ** -2, columns["SIGI(-)"] ** -2
    mean = (plus * weights[0] + minus * weights[1]) / (weights[0] + weights[1])
    np.testing.assert_allclose(columns["I"][both], mean[both], rtol=1e-4)


def test_files_in_any_grouping_and_order_give_the_same_bytes(stills: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    lattices = [lattice(number) for number in reversed(range(N_LATTICES))]
    write_pair(other, "idx-0000", lattices[:7])
    write_pair(other, "idx-0001", lattices[7:])
    merged(stills, tmp_path / "a")
    merged(other, tmp_path / "b")
    assert results(tmp_path / "a") == results(tmp_path / "b")


@pytest.mark.parametrize("ranks", [2, 4])
def test_local_ranks_give_the_same_bytes(stills: Path, tmp_path: Path, ranks: int) -> None:
    config = MergeConfig.model_validate({**CONFIG.model_dump(), "slice_rows": 1000})
    merged(stills, tmp_path / "one", config)
    run_local(step.run, ranks, step.request(config, [stills], tmp_path / "many"))
    assert results(tmp_path / "one") == results(tmp_path / "many")


@pytest.mark.mpi
def test_mpi_ranks_give_the_same_bytes(stills: Path, tmp_path: Path, mpi_environment: dict[str, str]) -> None:
    mpiexec = shutil.which("mpiexec")
    assert mpiexec is not None
    for ranks in (1, 2, 4):
        out = tmp_path / str(ranks)
        command = [sys.executable, "-c", "from exafel.cli.main import main; main()", "merge", "--json"]
        command += ["--stills", str(stills), "--out", str(out), "--set", "merge.d_min=2.5"]
        done = subprocess.run(
            [mpiexec, "--oversubscribe", "-n", str(ranks), *command],
            env=mpi_environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["n_accepted"] == 30
    assert results(tmp_path / "1") == results(tmp_path / "2") == results(tmp_path / "4")


def test_a_second_run_does_nothing(stills: Path, tmp_path: Path) -> None:
    assert not merged(stills, tmp_path).up_to_date
    again = merged(stills, tmp_path)
    assert again.up_to_date
    assert again.n_unique > 0


def test_other_reflections_of_a_file_given_by_name_are_merged_again(stills: Path, tmp_path: Path) -> None:
    (expt,) = list(stills.glob("*.expt"))[:1]
    refl = next(pair.refl for pair in find_pairs([expt], CONFIG.input))
    for path in (expt, refl):
        shutil.copy(path, tmp_path)
    request = step.request(CONFIG, [tmp_path / expt.name], tmp_path / "out")
    assert not step.run(request, SerialComm()).up_to_date
    assert step.run(request, SerialComm()).up_to_date
    os.utime(tmp_path / refl.name, (1, 1))
    assert not step.run(request, SerialComm()).up_to_date


def test_lattices_are_left_out_for_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    odd_cell = (44.5, 44.5, 60.0, 90.0, 90.0, 90.0)
    weak, weak_table = lattice(50)
    weak_table["intensity.sum.value"] = weak_table["intensity.sum.value"] * 1e-3
    bad = [lattice(40, cell=odd_cell), lattice(41, n=10), lattice(42, hall="-P 2yb"), (weak, weak_table)]
    write_pair(folder, "idx-0000", [*(lattice(number) for number in range(20)), *bad])
    summary = merged(folder, tmp_path / "out")
    assert (summary.n_lattices, summary.n_accepted) == (24, 20)
    assert summary.reasons == {"unit_cell": 1, "n_obs": 1, "space_group": 1, "no_signal": 1}


def test_lattices_of_absent_reflections_alone_are_nothing_usable(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    experiment, table = lattice(0, n=20)
    table["miller_index"] = np.array([[0, 0, 4 * k + 1] for k in range(20)], dtype=np.int32)
    write_pair(folder, "idx-0000", [(experiment, table)])
    config = MergeConfig.model_validate({"error": {"model": "none"}, "significance_filter": {"enabled": False}})
    with pytest.raises(NothingUsableError, match="absent in P 43 21 2"):
        merged(folder, tmp_path / "out", config)


def test_the_clusters_of_the_cells_step_are_a_filter(stills: Path, tmp_path: Path) -> None:
    """The made cells differ in one direction, evenly, so that 1.2 standard deviations keep the inner ones."""
    cells.run(cells.request(CellsConfig(), [stills], tmp_path / "cells"), SerialComm())
    cluster = {"file": str(tmp_path / "cells" / "cells.json"), "mahalanobis": 1.2}
    filters = {"unit_cell": {"algorithm": "cluster", "cluster": cluster}}
    summary = merged(stills, tmp_path / "out", MergeConfig.model_validate({**CONFIG.model_dump(), "filter": filters}))
    sizes = np.arange(N_LATTICES) - (N_LATTICES - 1) / 2
    assert summary.n_accepted == (np.abs(sizes) / sizes.std(ddof=1) <= 1.2).sum()
    assert summary.reasons == {"unit_cell": N_LATTICES - summary.n_accepted}


def test_a_lattice_that_contradicts_the_reference_is_left_out(stills: Path, tmp_path: Path) -> None:
    reference = tmp_path / "truth.mtz"
    wrong = np.random.default_rng(7).permutation(TRUE)
    ones = np.ones(len(TRUE))
    write_mtz(reference, MergedData(UNIQUE, CELL, "P 43 21 2", 1.3, wrong, ones, ones))
    scaling = {"algorithm": "mark0", "model": str(reference)}
    filters = {"outlier": {"min_corr": 0.5}}
    config = MergeConfig.model_validate({**CONFIG.model_dump(), "scaling": scaling, "filter": filters})
    with pytest.raises(NothingUsableError, match="correlation 30"):
        merged(stills, tmp_path / "out", config)


def test_nothing_measured_twice_is_nothing_usable(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    write_pair(folder, "idx-0000", [lattice(0)])
    config = MergeConfig.model_validate({"d_min": 2.5, "error": {"model": "none"}, "minimum_multiplicity": 3})
    with pytest.raises(NothingUsableError, match="measured 3 times"):
        merged(folder, tmp_path / "out", config)


def test_the_command_leaves_with_3_where_nothing_is_usable(
    stills: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["merge", "--stills", str(stills), "--out", str(tmp_path), "--set", "merge.filter.n_obs.min=1000"]
    assert main.run(arguments) == 3
    assert "of 30 lattices: n_obs 30" in capsys.readouterr().err
    assert not (tmp_path / "manifest.json").exists()


def test_without_a_limit_the_resolution_is_that_of_the_data(stills: Path, tmp_path: Path) -> None:
    config = MergeConfig.model_validate({"significance_filter": {"enabled": False}})
    assert merged(stills, tmp_path, config).d_min == pytest.approx(2.5, rel=0.01)


def test_the_same_lattices_twice_are_refused(stills: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stills, copy)
    with pytest.raises(InputError, match="twice"):
        step.run(step.request(CONFIG, [stills, copy], tmp_path / "out"), SerialComm())


def test_files_that_cannot_be_merged_are_named(stills: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"_integrated\.expt"):
        merged(empty, tmp_path / "out")
    lonely = tmp_path / "lonely"
    shutil.copytree(stills, lonely)
    (lonely / "idx-0001_integrated.refl").unlink()
    with pytest.raises(InputError, match=r"idx-0001_integrated.expt: its reflection file is missing"):
        merged(lonely, tmp_path / "out")
    damaged = tmp_path / "damaged"
    shutil.copytree(stills, damaged)
    os.truncate(damaged / "idx-0002_integrated.refl", 5000)
    with pytest.raises(InputError, match=r"idx-0002_integrated.refl"):
        merged(damaged, tmp_path / "out")
    with pytest.raises(InputError, match="no such"):
        merged(tmp_path / "absent", tmp_path / "out")


def test_a_table_without_intensities_is_refused(stills: Path, tmp_path: Path) -> None:
    folder = tmp_path / "strong"
    shutil.copytree(stills, folder)
    path = folder / "idx-0000_integrated.refl"
    table = read_refl(path)
    del table["intensity.sum.value"]
    write_refl(path, table)
    with pytest.raises(InputError, match=r"intensity.sum.value.*integrated"):
        merged(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scaling": {"algorithm": "mark0"}}, "needs scaling.model"),
        ({"d_min": 2.0, "d_max": 1.5}, "d_max must be larger"),
        ({"significance_filter": {"min_ct": 60}}, "max_ct must be at least"),
        ({"filter": {"unit_cell": {"algorithm": "cluster"}}}, "needs cluster.file"),
        ({"dmin": 2.0}, "did you mean 'd_min'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(config: dict[str, object], message: str) -> None:
    from exafel.config.base import validate

    with pytest.raises(ConfigError, match=message):
        validate(MergeConfig, config)
