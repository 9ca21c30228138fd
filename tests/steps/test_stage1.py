"""The stage1 step: from lattices to refined ones, whatever the ranks and whatever happens to some shots."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exafel.bragg.shot_table import read_table
from exafel.cli.main import run as command_line
from exafel.config.base import validate
from exafel.config.stage1 import Stage1Config
from exafel.errors import InputError, NothingUsableError
from exafel.io.experiment import ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.manifest import read_manifest, write_manifest
from exafel.io.refl import read_refl
from exafel.io.truth import read_truth
from exafel.parallel.comm import SerialComm
from exafel.parallel.launch import launch
from exafel.steps import stage1
from exafel.stills.accuracy import lattice_errors

CONFIG = {"shoebox_px": 13, "read_noise_photons": 0.0, "n_cells": [14, 14, 14], "chunk_size": 2}


def make(chain, out: Path, mtz: Path | None = None, **changes: object) -> stage1.StepRequest:
    config = validate(Stage1Config, {**CONFIG, **changes})
    return stage1.request(config, [chain.stills], mtz or chain.mtz, out)


def errors_of(folder: Path, truth: Path) -> tuple[float, float]:
    known = read_truth(truth)
    experiments = [item for file in read_manifest(folder).files(folder, "expt") for item in read_expt(file)]
    pairs = [(item.crystal, known.find(item.image).crystal) for item in experiments]
    found = lattice_errors(pairs, equivalence="laue")
    return float(np.median(found.misorientation_deg)), max(found.cell_rms_angstrom)


def test_lattices_are_better_than_before(pixel_chain, tmp_path: Path) -> None:
    summary = launch(stage1.run, make(pixel_chain, tmp_path / "out"))
    n = summary.n_shots
    assert n >= 8
    assert summary.n_refined == n
    assert summary.sigz_after == pytest.approx(1, abs=0.07)
    assert summary.sigz_after < summary.sigz_before
    assert summary.n_cells_median == pytest.approx((18, 18, 14), rel=0.05)
    before, after = (errors_of(folder, pixel_chain.truth) for folder in (pixel_chain.stills, tmp_path / "out"))
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]
    manifest = read_manifest(tmp_path / "out")
    (table,) = manifest.files(tmp_path / "out", "table")
    rows = read_table(table)
    spots = read_refl(manifest.files(tmp_path / "out", "refl")[0])
    assert [row["n_spots"] for row in rows] == np.bincount(spots["id"]).tolist()
    offset = spots["xyzcal.px"] - spots["xyzobs.px.value"]
    assert np.nanmedian(np.hypot(offset[:, 0], offset[:, 1])) < 0.4
    (file,) = manifest.files(tmp_path / "out", "expt")
    assert np.allclose(np.array(rows[0]["Amats"]).reshape(3, 3), read_expt(file)[0].crystal.A, atol=1e-9)
    assert launch(stage1.run, make(pixel_chain, tmp_path / "out")).up_to_date


def test_a_good_shot_carries_no_flag(pixel_chain, tmp_path: Path) -> None:
    # amplitudes 15 % off, and spots finer than those that there are
    summary = launch(stage1.run, make(pixel_chain, tmp_path / "out", pixel_chain.start, d_min=3.2))
    assert summary.n_refined == summary.n_shots
    assert summary.n_flagged == 0
    assert summary.sigz_after == pytest.approx(1, abs=0.1)
    (path,) = read_manifest(tmp_path / "out").files(tmp_path / "out", "refl")
    spots = read_refl(path)
    assert spots["d"].min() > 3.19
    assert np.isfinite(spots["xyzcal.px"]).all()
    before, after = (errors_of(folder, pixel_chain.truth) for folder in (pixel_chain.stills, tmp_path / "out"))
    assert after[0] < 0.6 * before[0]


def by_identifier(folder: Path) -> dict[str, tuple[object, ...]]:
    rows = [row for file in read_manifest(folder).files(folder, "table") for row in read_table(file)]
    return {row["identifier"]: (row["Amats"], row["ncells"], row["spot_scales"], row["sigz"]) for row in rows}


def test_ranks_and_resumption_do_not_change_results(
    pixel_chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(stage1.run, make(pixel_chain, tmp_path / "one"))
    launch(stage1.run, make(pixel_chain, tmp_path / "two"), ranks=2)
    assert by_identifier(tmp_path / "one") == by_identifier(tmp_path / "two")

    original, calls = stage1.refine_sampled, []

    def fail_later(*args: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(stage1, "refine_sampled", fail_later)
    with pytest.raises(KeyboardInterrupt):
        stage1.run(make(pixel_chain, tmp_path / "three"), SerialComm())
    stage1.run(make(pixel_chain, tmp_path / "three"), SerialComm())
    assert by_identifier(tmp_path / "one") == by_identifier(tmp_path / "three")
    assert len(calls) < 6 + len(by_identifier(tmp_path / "one"))


def stills_without(chain, folder: Path, lost: set[int]) -> Path:
    """The chain's stills, with the images of some lattices gone."""
    shutil.copytree(chain.stills, folder)
    manifest = read_manifest(folder)
    (path,) = manifest.files(folder, "expt")
    gone = ImageRef(folder / "gone.h5", 0)
    experiments = [
        replace(item, image=gone if number in lost else item.image) for number, item in enumerate(read_expt(path))
    ]
    write_expt(path, ExperimentList(experiments))
    sizes = {item.path: (folder / item.path).stat().st_size for item in manifest.containers}
    fixed = tuple(item.model_copy(update={"size_bytes": sizes[item.path]}) for item in manifest.containers)
    write_manifest(folder, manifest.model_copy(update={"containers": fixed}))
    return folder


def test_bad_shots_are_told_and_lost_alone(pixel_chain, tmp_path: Path) -> None:
    folder = stills_without(pixel_chain, tmp_path / "stills", {1, 4})
    config = validate(Stage1Config, CONFIG)
    summary = launch(stage1.run, stage1.request(config, [folder], pixel_chain.mtz, tmp_path / "out"))
    assert summary.n_refined == summary.n_shots - 2
    assert summary.reasons == {"no such file or folder": 2}
    (listing,) = read_manifest(tmp_path / "out").files(tmp_path / "out", "shots")
    told = [json.loads(line) for line in listing.read_text().splitlines()]
    assert [row["lattice"] for row in told if row["reason"]] == [1, 4]
    launch(stage1.run, make(pixel_chain, tmp_path / "whole"))
    whole, rest = by_identifier(tmp_path / "whole"), by_identifier(tmp_path / "out")
    assert all(whole[name] == row for name, row in rest.items())
    folder = stills_without(pixel_chain, tmp_path / "nothing", set(range(summary.n_shots)))
    with pytest.raises(NothingUsableError, match="no such file"):
        launch(stage1.run, stage1.request(config, [folder], pixel_chain.mtz, tmp_path / "none"))


def test_what_is_missing_is_said(pixel_chain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such"):
        make(pixel_chain, tmp_path, mtz=tmp_path / "none.mtz")
    (tmp_path / "empty").mkdir()
    request = stage1.request(validate(Stage1Config, CONFIG), [tmp_path / "empty"], pixel_chain.mtz, tmp_path / "o")
    with pytest.raises(InputError, match="not finished"):
        launch(stage1.run, request)
    with pytest.raises(NothingUsableError, match="fewer than"):
        launch(stage1.run, make(pixel_chain, tmp_path / "few", min_spots=5000))


def test_the_command(pixel_chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("stage1: {shoebox_px: 13, refine: [scale, turns], max_evaluations: 8}\n")
    inputs = ["--stills", str(pixel_chain.stills), "--mtz", str(pixel_chain.mtz), "--config", str(config)]
    assert command_line(["stage1", *inputs, "--out", str(tmp_path / "out"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n_cells_median"] == [20, 20, 20]
