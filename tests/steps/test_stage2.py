"""Predict and stage 2 on shots whose structure factors are known; ranks, memory and kills do not change the result."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pixel_shots import amplitudes, beam, detector, photons, reflections

from exafel.bragg.shot_table import read_table
from exafel.cli.main import run as command_line
from exafel.config.base import validate
from exafel.config.predict import PredictConfig
from exafel.config.stage1 import Stage1Config
from exafel.config.stage2 import Stage2Config
from exafel.errors import InputError, NothingUsableError
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest
from exafel.io.mtz import read_mtz
from exafel.io.refl import read_refl
from exafel.parallel.comm import SerialComm
from exafel.parallel.launch import launch
from exafel.steps import predict, stage1, stage2, stage2_refine

CONFIG = {"max_iterations": 12, "checkpoint_every": 2, "held_out": 0.05, "patience": 12}


@pytest.fixture(scope="session")
def predicted(pixel_chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the predictions for the chain's shots, refined with the true amplitudes."""
    return predictions(pixel_chain, tmp_path_factory.mktemp("predicted"))


def predictions(pixel_chain, folder: Path, ranks: int = 1) -> Path:
    config = validate(Stage1Config, {"shoebox_px": 13, "read_noise_photons": 0.0, "n_cells": [14, 14, 14]})
    launch(stage1.run, stage1.request(config, [pixel_chain.stills], pixel_chain.mtz, folder / "stage1"), ranks=ranks)
    launch(predict.run, predict.request(PredictConfig(), folder / "stage1", folder / "predict"), ranks=ranks)
    return folder / "predict"


def refine(predicted: Path, mtz: Path, out: Path, ranks: int = 1, **changes: object) -> stage2.Stage2Summary:
    return launch(
        stage2.run, stage2.request(validate(Stage2Config, {**CONFIG, **changes}), predicted, mtz, out), ranks=ranks
    )


def refined(folder: Path) -> np.ndarray:
    return read_mtz(folder / "refined.mtz", "I(+)").value


def test_strong_true_spots_are_predicted_where_they_are(pixel_chain, predicted: Path) -> None:
    manifest = read_manifest(predicted)
    experiments = read_expt(manifest.files(predicted, "expt")[0])
    table = read_refl(manifest.files(predicted, "refl")[0])
    rows = read_table(manifest.files(predicted, "table")[0])
    known = reflections()
    F = amplitudes(known)
    n_found, n_true, n_false, n_predicted = 0, 0, 0, 0
    for number, experiment in enumerate(experiments):
        mine = table.select(table["id"] == number)
        assert rows[number]["n_predicted"] == len(mine)
        true = photons(experiment.crystal, known, F, detector(), beam(), rows[number]["spot_scales"])[0]
        bright = np.argwhere(true[7:-7, 7:-7] > 12) + 7  # spots at the edges have no box
        places = mine["xyzcal.px"][:, :2]
        for y, x in bright:
            n_true += 1
            n_found += bool(np.min(np.hypot(places[:, 0] - x - 0.5, places[:, 1] - y - 0.5)) < 3)
        for x, y in places:
            n_predicted += 1
            box = true[max(int(y) - 3, 0) : int(y) + 4, max(int(x) - 3, 0) : int(x) + 4]
            n_false += bool(box.sum() < 1)
    assert n_found > 0.97 * n_true
    assert n_false < 0.1 * n_predicted


def test_intensities_are_those_of_the_model(predicted: Path) -> None:
    table = read_refl(read_manifest(predicted).files(predicted, "refl")[0])
    strong = table["is_strong"]
    assert 0.3 < strong.mean() < 1
    for name in ("sum", "prf"):
        ratio = table[f"intensity.{name}.value"] / np.sqrt(table[f"intensity.{name}.variance"])
        assert np.median(ratio[strong]) > 10
    summed, fitted = table["intensity.sum.value"], table["intensity.prf.value"]
    assert np.corrcoef(summed, fitted)[0, 1] > 0.98
    assert np.median(table["intensity.prf.variance"]) < np.median(table["intensity.sum.variance"])
    expected = table["expected.photons"]
    assert np.corrcoef(np.log(expected), np.log(np.maximum(fitted, 1)))[0, 1] > 0.6


def test_amplitudes_come_nearer_to_the_truth(pixel_chain, predicted: Path, tmp_path: Path) -> None:
    summary = refine(predicted, pixel_chain.start, tmp_path / "out", max_iterations=30)
    assert summary.n_used == summary.n_shots
    assert summary.sigz_end == pytest.approx(1, abs=0.12)
    assert summary.sigz_start > 1.5
    truth, start = read_mtz(pixel_chain.mtz), read_mtz(pixel_chain.start)
    known = reflections()
    end = read_mtz(tmp_path / "out" / "refined.mtz", "I(+)")
    of = [dict(zip(known.lookup(item.hkl).tolist(), item.value, strict=True)) for item in (truth, start, end)]
    common = sorted(set(of[0]) & set(of[1]) & set(of[2]))
    true, before = (np.array([part[number] for number in common]) for part in of[:2])
    after = np.sqrt([of[2][number] for number in common])
    after *= np.median(true / after)
    errors = [np.abs(item - true).sum() / true.sum() for item in (before, after)]
    assert errors[1] < 0.6 * errors[0]
    with (tmp_path / "out" / "convergence.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == summary.iterations + 1
    values = [float(row["objective"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert refine(predicted, pixel_chain.start, tmp_path / "out", max_iterations=30).up_to_date


def test_ranks_threads_and_memory_do_not_change_a_bit(pixel_chain, predicted: Path, tmp_path: Path) -> None:
    refine(predicted, pixel_chain.start, tmp_path / "one")
    refine(predicted, pixel_chain.start, tmp_path / "two", ranks=2, threads=2)
    again = refine(predicted, pixel_chain.start, tmp_path / "again", memory_gb=0.00073)
    assert again.n_recomputed == again.n_used
    assert np.array_equal(refined(tmp_path / "one"), refined(tmp_path / "two"))
    assert np.array_equal(refined(tmp_path / "one"), refined(tmp_path / "again"))
    with pytest.raises(InputError, match="alone need more"):
        refine(predicted, pixel_chain.start, tmp_path / "tiny", memory_gb=1e-6)
    with pytest.raises(InputError, match=r"shots and 3146 reflections take .* coefficients not counted"):
        refine(predicted, pixel_chain.start, tmp_path / "small", memory_gb=0.0007)


def test_the_order_that_stage_1_left_the_shots_in_does_not_matter(pixel_chain, predicted: Path, tmp_path: Path) -> None:
    other = predictions(pixel_chain, tmp_path, ranks=2)
    first, second = (
        [item.image.index for path in read_manifest(folder).files(folder, "expt") for item in read_expt(path)]
        for folder in (predicted, other)
    )
    assert first != second
    assert sorted(first) == sorted(second)
    here = refine(predicted, pixel_chain.start, tmp_path / "here")
    there = refine(other, pixel_chain.start, tmp_path / "there")
    assert there.held_out_end == pytest.approx(here.held_out_end, rel=1e-9)
    assert refined(tmp_path / "there") == pytest.approx(refined(tmp_path / "here"), rel=1e-6)


def test_a_killed_run_goes_on_bit_for_bit(
    pixel_chain, predicted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refine(predicted, pixel_chain.start, tmp_path / "whole")
    request = stage2.request(validate(Stage2Config, CONFIG), predicted, pixel_chain.start, tmp_path / "killed")
    original, calls = stage2_refine.step, []

    def die_later(*args: object, **options: object) -> bool:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(stage2_refine, "step", die_later)
    with pytest.raises(KeyboardInterrupt):
        stage2.run(request, SerialComm())
    stage2.run(request, SerialComm())
    assert len(calls) == 6 + 8  # four iterations were in the checkpoint
    assert np.array_equal(refined(tmp_path / "whole"), refined(tmp_path / "killed"))


def test_shots_that_stage_1_left_bad_are_not_used(pixel_chain, predicted: Path, tmp_path: Path) -> None:
    (table,) = read_manifest(predicted).files(predicted, "table")
    values = sorted(row["sigz"] for row in read_table(table))
    limit = max(1.0001, (values[4] + values[5]) / 2)
    summary = refine(predicted, pixel_chain.start, tmp_path / "some", max_sigma_z=limit, max_iterations=0)
    assert summary.n_used == sum(value <= limit for value in values) < len(values)
    assert sum(summary.reasons.values()) == summary.n_shots - summary.n_used
    Path(read_expt(read_manifest(predicted).files(predicted, "expt")[0])[0].image.path).rename(tmp_path / "moved.h5")
    try:
        with pytest.raises(NothingUsableError, match="no such file"):
            refine(predicted, pixel_chain.start, tmp_path / "none", max_iterations=0)
    finally:
        (tmp_path / "moved.h5").rename(pixel_chain.images)


def test_the_commands(pixel_chain, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--predict", str(predicted), "--mtz", str(pixel_chain.start), "--out", str(tmp_path / "out")]
    more = ["--set", "stage2.max_iterations=2", "--memory-gb", "0.5", "--no-resume", "--json"]
    assert command_line(["stage2", *inputs, *more]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 2
    stage1_folder = predicted.parent / "stage1"
    out = ["--out", str(tmp_path / "p"), "--set", "predict.weak_fraction=0", "--json"]
    assert command_line(["predict", "--stage1", str(stage1_folder), *out]) == 0
    assert json.loads(capsys.readouterr().out)["n_weak"] == 0
