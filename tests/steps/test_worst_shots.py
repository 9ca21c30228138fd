"""Stages 1 and 2 on shots that are not what they should be, beside good ones: what is told, and what is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from exafel.bragg.shot_table import read_table
from exafel.config.base import validate
from exafel.config.predict import PredictConfig
from exafel.config.stage1 import Stage1Config
from exafel.config.stage2 import Stage2Config
from exafel.io.experiment import ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.manifest import read_manifest, write_manifest
from exafel.io.refl import read_refl, write_refl
from exafel.parallel.launch import launch
from exafel.steps import predict, stage1, stage2

CONFIG = {"shoebox_px": 13, "read_noise_photons": 0.0, "n_cells": [14, 14, 14]}
WRONG_CELL, HOT, FEW = 0, 3, 5


def spoilt(chain, folder: Path) -> Path:
    """The chain's stills, one lattice with a cell 6 % off, one on an image with hot pixels, one with three spots."""
    shutil.copytree(chain.stills, folder)
    manifest = read_manifest(folder)
    (path,), (spots,) = manifest.files(folder, "expt"), manifest.files(folder, "indexed")
    experiments, table = list(read_expt(path)), read_refl(spots)
    lattice = experiments[WRONG_CELL].crystal
    assert lattice is not None
    wrong = replace(lattice, real_space=1.06 * lattice.real_space)
    experiments[WRONG_CELL] = replace(experiments[WRONG_CELL], crystal=wrong)
    images = folder / "hot.h5"
    shutil.copy(chain.images, images)
    with h5py.File(images, "r+") as file:
        data = file["entry/data/data"]
        number = experiments[HOT].image.index or 0
        frame = data[number]
        frame[np.random.default_rng(0).random(frame.shape) < 0.002] += 4000
        data[number] = frame
    experiments[HOT] = replace(experiments[HOT], image=ImageRef(images, experiments[HOT].image.index))
    few = np.flatnonzero(table["id"] == FEW)[3:]
    write_refl(spots, table.select(np.setdiff1d(np.arange(len(table)), few)))
    write_expt(path, ExperimentList(experiments))
    sizes = {item.path: (folder / item.path).stat().st_size for item in manifest.containers}
    fixed = tuple(item.model_copy(update={"size_bytes": sizes[item.path]}) for item in manifest.containers)
    write_manifest(folder, manifest.model_copy(update={"containers": fixed}))
    return folder


def told(folder: Path) -> list[dict[str, object]]:
    (path,) = read_manifest(folder).files(folder, "shots")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_worst_shots_are_told_and_the_others_are_not_touched(pixel_chain, tmp_path: Path) -> None:
    config = validate(Stage1Config, CONFIG)
    launch(stage1.run, stage1.request(config, [pixel_chain.stills], pixel_chain.start, tmp_path / "good"))
    bad = spoilt(pixel_chain, tmp_path / "stills")
    summary = launch(stage1.run, stage1.request(config, [bad], pixel_chain.start, tmp_path / "stage1"))
    listed = told(tmp_path / "stage1")
    assert summary.n_refined == summary.n_shots - 1
    assert listed[FEW]["reason"] == "fewer than 6 usable spots"
    assert "boxes_rejected" in str(listed[HOT]["flags"])
    assert str(listed[WRONG_CELL]["flags"]) != ""
    rest = [row["lattice"] for row in listed if row["lattice"] not in {WRONG_CELL, HOT, FEW}]
    assert all(listed[number]["flags"] == "" for number in rest)
    good = {row["image_index"]: row["Amats"] for row in read_table(tmp_path / "good/rank-00000.pkl")}
    after = {row["image_index"]: row["Amats"] for row in read_table(tmp_path / "stage1/rank-00000.pkl")}
    assert all(after[number] == good[number] for number in rest)

    predicted = launch(
        predict.run,
        predict.request(validate(PredictConfig, {"shoebox_px": 13}), tmp_path / "stage1", tmp_path / "predict"),
    )
    refined = launch(
        stage2.run,
        stage2.request(
            validate(Stage2Config, {"max_iterations": 15}), tmp_path / "predict", pixel_chain.start, tmp_path / "stage2"
        ),
    )
    assert len(rest) <= refined.n_used <= predicted.n_predicted_shots
    assert refined.n_hot_pixels > 0
    assert refined.sigz_end < 0.8 * refined.sigz_start
