"""The evaluate step on lattices and intensities whose errors are known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.cli.main import run as command_line
from exafel.config.evaluate import EvaluateSfxConfig
from exafel.errors import ConfigError, InputError, NothingUsableError
from exafel.io.crystal import Crystal, orthogonalization, space_group
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.mtz import MergedData, write_mtz
from exafel.io.truth import TrueShot, write_true_amplitudes, write_truth
from exafel.parallel.launch import launch
from exafel.steps import evaluate

CELL = (42.0, 42.0, 89.0, 90.0, 90.0, 90.0)
GROUP = space_group("P43212")
ERRORS_DEG = (0.01, 0.02, 0.06, 20.0)


def turned(axis: int, angle_deg: float, cell: tuple[float, ...] = CELL) -> Crystal:
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    turn = np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    return Crystal((turn @ orthogonalization(cell)).T, str(GROUP.hall))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Truth of six shots, the last of which missed; lattices for five, one of them on the miss, one grossly wrong."""
    shots = [TrueShot("rank-00000.h5", i, i, 1.3, turned(i % 3, 30.0 * i) if i < 5 else None) for i in range(6)]
    write_truth(tmp_path / "truth.jsonl", shots)
    detector = Detector((Panel("p", [-5, 5, -80], [1, 0, 0], [0, -1, 0], (0.1, 0.1), (100, 100)),))
    found = ExperimentList()
    cell = (42.03, 42.03, 89.04, 90.0, 90.0, 90.0)
    for index, error in zip((0, 1, 2, 3, 5), (*ERRORS_DEG, 0.0), strict=True):
        crystal = turned(index % 3, 30.0 * index + error, cell)
        found.append(Experiment(str(index), Beam(1.3), detector, ImageRef(tmp_path / "rank-00000.h5", index), crystal))
    write_expt(tmp_path / "found.expt", found)
    return tmp_path


def request_for(folder: Path, **options: Path) -> evaluate.StepRequest:
    paths = (folder / "found.expt",)
    return evaluate.request(EvaluateSfxConfig(), paths, folder / "truth.jsonl", folder / "out", **options)


def test_lattices_are_matched_to_their_shots(folder: Path) -> None:
    summary = launch(evaluate.run, request_for(folder))
    assert (summary.n, summary.n_true, summary.n_wrong, summary.n_false) == (4, 5, 1, 1)
    assert summary.misorientation_deg.median == pytest.approx(0.04, abs=1e-5)
    assert summary.misorientation_deg.max == pytest.approx(20, abs=1e-5)
    assert summary.cell_rms_angstrom == pytest.approx((0.03, 0.03, 0.04), abs=1e-9)
    written = json.loads((folder / "out" / "evaluation.json").read_text())
    assert written["misorientation_deg"]["median"] == summary.misorientation_deg.median
    assert launch(evaluate.run, request_for(folder)).up_to_date


def test_merged_intensities_against_true_ones(folder: Path) -> None:
    hkl = gemmi.make_miller_array(gemmi.UnitCell(*CELL), GROUP, 4.0).astype(np.int32)
    rng = np.random.default_rng(1)
    F = rng.uniform(10, 100, len(hkl))
    write_true_amplitudes(folder / "truth.mtz", hkl, F, CELL, GROUP, anomalous=False)
    noise = rng.normal(0, 0.5 * np.std(F**2), len(hkl))
    sigma = np.full(len(hkl), noise.std())
    data = MergedData(hkl, CELL, str(GROUP.hm), 1.3, 3 * (F**2 + noise), sigma, np.ones(len(hkl)))
    write_mtz(folder / "merged.mtz", data)
    request = request_for(folder, merge=folder / "merged.mtz", mtz=folder / "truth.mtz")
    summary = launch(evaluate.run, request)
    assert summary.cc_true == pytest.approx(1 / np.sqrt(1.25), abs=0.03)
    assert len(summary.shells) == 10
    assert sum(shell.n for shell in summary.shells) == len(hkl)
    assert summary.shells[-1].d_min == pytest.approx(4.0, abs=0.02)


def test_the_command_prints_the_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stills, truth = str(folder / "found.expt"), str(folder / "truth.jsonl")
    assert command_line(["evaluate", "sfx", "--stills", stills, "--truth", truth, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4


def test_what_cannot_be_compared_is_said(folder: Path) -> None:
    write_truth(folder / "truth.jsonl", [TrueShot("other.h5", 0, 0, 1.3, turned(0, 1.0))])
    with pytest.raises(NothingUsableError, match="no lattice belongs"):
        launch(evaluate.run, request_for(folder))
    with pytest.raises(ConfigError, match="true structure factors"):
        request_for(folder, merge=folder / "merged.mtz")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="not finished"):
        launch(
            evaluate.run,
            evaluate.request(EvaluateSfxConfig(), (folder / "empty",), folder / "truth.jsonl", folder / "o"),
        )


@pytest.mark.mpi
def test_under_mpi_no_rank_waits_for_one_that_found_nothing(folder: Path, mpi_environment: dict[str, str]) -> None:
    write_truth(folder / "truth.jsonl", [TrueShot("other.h5", 0, 0, 1.3, turned(0, 0.0))])
    mpiexec = shutil.which("mpiexec")
    assert mpiexec is not None
    code = "from exafel.cli.main import main; main()"
    inputs = ["--stills", str(folder / "found.expt"), "--truth", str(folder / "truth.jsonl")]
    done = subprocess.run(
        [mpiexec, "--oversubscribe", "-n", "2", sys.executable, "-c", code, "evaluate", "sfx", *inputs],
        env=mpi_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 3
    assert done.stderr.count("exafel: no lattice belongs to") == 1
