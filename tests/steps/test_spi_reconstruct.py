"""From shots of a small particle to its density, ab initio: against the truth, on any number of ranks, after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.config.spi import SpiEvaluateConfig, SpiReconstructConfig
from exafel.errors import ConfigError, InputError, NothingUsableError
from exafel.io.mrc import read_mrc
from exafel.parallel.launch import launch
from exafel.spi.state import load_state
from exafel.steps import simulate_spi, spi_evaluate, spi_reconstruct
from exafel.steps.base import Hooks
from exafel.steps.spi_reconstruct import Tasks

COMMAND = (sys.executable, "-c", "from exafel.cli.main import main; main()")
ATOM = "ATOM  {n:5d}  C   ALA A{res:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C\n"


def blobs(path: Path, seed: int, reach: float) -> Path:
    """An asymmetric particle of six blobs of atoms."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 3))
    centres *= reach / np.linalg.norm(centres, axis=1, keepdims=True)
    atoms = np.concatenate([c + rng.normal(scale=2.5, size=(20 + 25 * i, 3)) for i, c in enumerate(centres)])
    return write_atoms(path, atoms)


def write_atoms(path: Path, atoms: np.ndarray) -> Path:
    lines = [ATOM.format(n=n + 1, res=n // 9 + 1, x=x, y=y, z=z) for n, (x, y, z) in enumerate(atoms)]
    path.write_text("".join(lines) + "END\n")
    return path


def simulated(folder: Path, structures: list[Path], n_shots: int, **changes: object) -> Path:
    config = SimulateSpiConfig.model_validate(
        {
            "structures": [str(path) for path in structures],
            "n_shots": n_shots,
            "seed": 2,
            "detector": {"size_px": 24},
            "pulse": {"focus_radius_um": 0.02},
            "noise": {"poisson": False},
            **changes,
        }
    )
    launch(simulate_spi.run, simulate_spi.request(config, folder))
    return folder


def config(**changes: object) -> SpiReconstructConfig:
    data: dict[str, object] = {
        "diameter_angstrom": 52.0,
        "d_min_angstrom": 8.2,
        "marching": {"d_start_angstrom": 8.6, "first_generations": 12, "generations": 2, "start_generations": 8},
        "matching": {"references": 2000, "refine_from": 6, "local_from": 12},
        "merging": {"regularisation": [0.01]},
        "phasing": {"iterations": 60, "er_iterations": 20, "shrinkwraps": 2, "starts": 2},
        "block_images": 50,
        **changes,
    }
    return SpiReconstructConfig.model_validate(data)


@pytest.fixture(scope="module")
def structure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("pdb") / "blobs.pdb", 3, 16.0)


@pytest.fixture(scope="module")
def shots(structure: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("shots"), [structure], 200)


def short(**changes: object) -> SpiReconstructConfig:
    """Three generations only, for what does not need a good map."""
    settings: dict[str, object] = {
        "d_min_angstrom": 14.0,
        "max_generations": 3,
        "marching": {"d_start_angstrom": 14.0, "starts": 1},
        "matching": {"references": 200, "refine_from": 1, "local_from": 2},
    }
    return config(**settings | changes)


def test_orientations_and_density_are_found_ab_initio(shots: Path, structure: Path, tmp_path: Path) -> None:
    request = spi_reconstruct.request(config(halves=False), [shots], tmp_path / "map")
    summary = launch(spi_reconstruct.run, request)
    assert summary.n_images == 200
    assert summary.finished
    assert summary.d_angstrom == 8.2
    assert summary.generations[-1].median_move_deg < 2.0
    evaluation = SpiEvaluateConfig(structures=(str(structure),), d_align_angstrom=14.0)
    against = spi_evaluate.request(evaluation, tmp_path / "map", [shots], tmp_path / "evaluate")
    truth = launch(spi_evaluate.run, against)
    assert truth.orientation_median_deg < 3.0
    assert truth.densities[0].fsc_half_angstrom is not None
    assert truth.densities[0].fsc_half_angstrom < 10.0
    density, voxel = read_mrc(tmp_path / "map" / "class0_density.mrc")
    assert voxel == pytest.approx(4.1)
    assert density.shape == (27, 27, 27)
    assert launch(spi_reconstruct.run, request).up_to_date
    assert launch(spi_evaluate.run, against).up_to_date


def maps(folder: Path) -> list[np.ndarray]:
    return [read_mrc(path)[0] for path in sorted(folder.glob("*.mrc"))]


def test_the_map_does_not_depend_on_the_number_of_ranks(shots: Path, tmp_path: Path) -> None:
    settings = short(merging={"regularisation": [0.1, 0.01]})
    for ranks in (1, 2):
        launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], tmp_path / str(ranks)), ranks=ranks)
    for expected, found in zip(maps(tmp_path / "1"), maps(tmp_path / "2"), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert (tmp_path / "1" / "images.csv").read_text() == (tmp_path / "2" / "images.csv").read_text()


def test_tasks_give_the_map_of_ranks(shots: Path, tmp_path: Path) -> None:
    settings = short(merging={"regularisation": [0.1, 0.01]})
    launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], tmp_path / "ranks"))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        run = partial(spi_reconstruct.run, tasks=Tasks(pool.submit, 2))
        launch(run, spi_reconstruct.request(settings, [shots], tmp_path / "tasks"))
    for expected, found in zip(maps(tmp_path / "ranks"), maps(tmp_path / "tasks"), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert (tmp_path / "ranks" / "images.csv").read_text() == (tmp_path / "tasks" / "images.csv").read_text()


def command_line(settings: SpiReconstructConfig, shots: Path, out: Path) -> list[str]:
    """The command that reconstructs into a folder, with its configuration beside it."""
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps({"spi_reconstruct": settings.model_dump(mode="json")}))
    return [*COMMAND, "spi", "reconstruct", "-i", str(shots), "-c", str(path), "-o", str(out)]


@pytest.mark.mpi
def test_mpi_ranks_sum_up_the_same(shots: Path, tmp_path: Path, mpi_environment: dict[str, str]) -> None:
    launch(spi_reconstruct.run, spi_reconstruct.request(short(), [shots], tmp_path / "one"))
    command = ["mpiexec", "--oversubscribe", "-n", "2", *command_line(short(), shots, tmp_path / "two")]
    done = subprocess.run(command, env=mpi_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for expected, found in zip(maps(tmp_path / "one"), maps(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_a_run_that_is_killed_gives_the_same_map(shots: Path, tmp_path: Path) -> None:
    settings = short().model_copy(update={"max_generations": 7})
    launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], tmp_path / "whole"))
    command = command_line(settings, shots, tmp_path / "killed")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    fifth = tmp_path / "killed" / "generations" / "005.json"
    until = time.monotonic() + 120
    while not fifth.exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert fifth.exists()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    state = load_state(tmp_path / "killed" / ".work" / "checkpoint.npz")
    assert state.generation >= 5
    summary = launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], tmp_path / "killed"))
    assert summary.n_generations == 7
    for expected, found in zip(maps(tmp_path / "whole"), maps(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_generations_in_blocks_are_the_same_as_all_at_once(shots: Path, tmp_path: Path) -> None:
    launch(spi_reconstruct.run, spi_reconstruct.request(short(), [shots], tmp_path / "whole"))
    request = spi_reconstruct.request(short(), [shots], tmp_path / "blocks")
    part = launch(partial(spi_reconstruct.run, until=2), request)
    assert not part.finished
    assert part.n_generations == 2
    assert not (tmp_path / "blocks" / "manifest.json").exists()
    assert launch(spi_reconstruct.run, request).finished
    for expected, found in zip(maps(tmp_path / "whole"), maps(tmp_path / "blocks"), strict=True):
        np.testing.assert_array_equal(expected, found)


@pytest.mark.slow
def test_two_conformations_are_told_apart(structure: Path, tmp_path: Path) -> None:
    other = blobs(tmp_path / "other.pdb", 11, 12.0)
    mixed = simulated(tmp_path / "mixed", [structure, other], 300)
    settings = config(
        classes=2,
        halves=False,
        d_min_angstrom=10.0,
        marching={"d_start_angstrom": 10.0, "first_generations": 12, "starts": 3, "start_generations": 10},
        matching={"references": 1500, "soft": 30.0, "refine_from": 8, "local_from": 14},
    )
    found = launch(spi_reconstruct.run, spi_reconstruct.request(settings, [mixed], tmp_path / "map"))
    evaluation = spi_evaluate.request(SpiEvaluateConfig(), tmp_path / "map", [mixed], tmp_path / "evaluate")
    truth = launch(spi_evaluate.run, evaluation)
    assert truth.class_accuracy is not None
    assert truth.class_accuracy > 0.95
    assert np.array(truth.confusion).sum() == 300
    assert all(item.likeness is not None and item.likeness < 0.95 for item in found.classes)


@pytest.mark.slow
def test_classes_of_one_conformation_are_said_to_be_alike(shots: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    settings = config(classes=2, halves=False, d_min_angstrom=10.0, marching={"d_start_angstrom": 10.0, "starts": 2})
    request = spi_reconstruct.request(settings, [shots], tmp_path / "map")
    found = launch(partial(spi_reconstruct.run, hooks=Hooks(note=notes.append)), request)
    assert all(item.likeness is not None and item.likeness > 0.95 for item in found.classes)
    assert notes == ["classes [0, 1] are like another one: there may be fewer conformations, or one too rare to find"]


def edited(source: Path, target: Path, n: int, change: str) -> Path:
    """Copy some shots, spoiled in one way."""
    with h5py.File(source / "rank-00000.h5") as old, h5py.File(target, "w") as new:
        images = old["intensities"][:n]
        if change == "dark":
            images[:] = 0
        elif change == "nan":
            images[::2, 0, 12, 12] = np.nan
        new["intensities"] = images
        new["pixel_position_reciprocal"] = old["pixel_position_reciprocal"][()]
    return target


@pytest.mark.parametrize(("starts", "each"), [(1, 2), (3, 1), (3, 2)])
def test_the_last_generation_is_the_end_whatever_starts_there_are(
    shots: Path, tmp_path: Path, starts: int, each: int
) -> None:
    marching = {"d_start_angstrom": 14.0, "first_generations": 2, "starts": starts, "start_generations": each}
    settings = short(max_generations=2, marching=marching)
    summary = launch(spi_reconstruct.run, spi_reconstruct.request(settings, [shots], tmp_path / "map"))
    assert summary.finished
    assert summary.n_generations == 2
    assert maps(tmp_path / "map")


@pytest.mark.parametrize(
    ("n", "change", "message"),
    [
        (20, "", r"20 usable images are too few for a reconstruction, which needs 50 \(no others were given\)"),
        (60, "dark", r"0 usable images .*\(60 without photons\)"),
        (60, "nan", r"30 usable images .*\(30 damaged or with values that are no numbers\)"),
    ],
)
def test_too_few_images_are_said_with_the_reasons(
    shots: Path, tmp_path: Path, n: int, change: str, message: str
) -> None:
    path = edited(shots, tmp_path / "shots.h5", n, change)
    with pytest.raises(NothingUsableError, match=message):
        launch(spi_reconstruct.run, spi_reconstruct.request(short(), [path], tmp_path / "map"))


def test_bad_shots_are_left_out_and_counted(shots: Path, tmp_path: Path) -> None:
    path = edited(shots, tmp_path / "shots.h5", 120, "nan")
    summary = launch(spi_reconstruct.run, spi_reconstruct.request(short(), [path], tmp_path / "map"))
    assert summary.n_images == 60
    assert summary.reasons == {"damaged or with values that are no numbers": 60}


def test_wrong_geometry_missing_section_and_damaged_checkpoints_are_named(shots: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'spi_reconstruct' is required"):
        spi_reconstruct.request(None, [shots], tmp_path)
    path = edited(shots, tmp_path / "shots.h5", 60, "")
    with h5py.File(path, "r+") as stream:
        stream["pixel_position_reciprocal"][...] *= 1e6
    with pytest.raises(InputError, match=r"0 pixels are left up to 14 Å"):
        launch(spi_reconstruct.run, spi_reconstruct.request(short(), [path], tmp_path / "map"))
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_state(tmp_path / "bad.npz")
