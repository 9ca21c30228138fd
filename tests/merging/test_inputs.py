from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.merge import InputConfig
from exafel.errors import InputError
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.io.manifest import Manifest, describe_container, write_manifest
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.inputs import Pair, find_pairs, shares
from exafel.merging.lattices import split_lattices


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return [folder / name for name in names]


def test_a_folder_of_dials_files_gives_pairs_by_suffix(tmp_path: Path) -> None:
    files = touch(tmp_path / "a", "idx-1_integrated.expt", "idx-1_integrated.refl", "idx-1_refined.expt")
    assert find_pairs([tmp_path / "a"], InputConfig()) == [Pair(files[0], files[1])]


def test_files_can_be_named_one_by_one_and_only_count_once(tmp_path: Path) -> None:
    expt, refl, other, partner = touch(tmp_path / "a", "x_integrated.expt", "x_integrated.refl", "y.expt", "y.refl")
    found = find_pairs([expt, other, tmp_path / "a"], InputConfig())
    assert found == [Pair(expt, refl), Pair(other, partner)]
    with pytest.raises(InputError, match="no integrated lattices"):
        find_pairs([refl], InputConfig())


def test_a_finished_step_gives_the_pairs_of_its_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    files = touch(
        folder, "rank-00000.expt", "rank-00000.refl", "rank-00001.expt", "rank-00001.refl", "rank-00001_strong.refl"
    )
    kinds = ("expt", "refl", "expt", "refl", "strong")
    containers = [
        describe_container(path, kind, folder=folder, rank=int(path.name[9]))
        for path, kind in reversed(list(zip(files, kinds, strict=True)))
    ]
    about = {"step": "stills", "engine_version": "1", "software_version": "1", "fingerprint": "f", "config": {}}
    write_manifest(folder, Manifest(**about, containers=tuple(containers)))
    assert find_pairs([folder], InputConfig()) == [Pair(files[0], files[1]), Pair(files[2], files[3])]


@pytest.mark.parametrize(("n_files", "size"), [(1, 1), (1, 4), (3, 4), (7, 3), (2, 5)])
def test_every_part_of_every_file_is_read_by_one_rank(n_files: int, size: int) -> None:
    pairs = [Pair(Path(f"{i}.expt"), Path(f"{i}.refl")) for i in range(n_files)]
    everything = [share for rank in range(size) for share in shares(pairs, rank, size)]
    assert len(set(everything)) == len(everything)
    for pair in pairs:
        mine = [share for share in everything if share.pair == pair]
        assert sorted(share.part for share in mine) == list(range(mine[0].n_parts))
    assert n_files > 1 or all(shares(pairs, rank, size) for rank in range(size))


def made() -> tuple[ExperimentList, ReflectionTable]:
    experiments = [Experiment(f"e{i}", Beam(1.0), Detector(()), ImageRef(Path("a.h5"), i)) for i in range(5)]
    rng = np.random.default_rng(0)
    n = 60
    table = ReflectionTable(
        {
            "id": rng.integers(0, 5, n).astype(np.int32),
            "miller_index": np.arange(3 * n, dtype=np.int32).reshape(n, 3),
            "s1": np.ones((n, 3)),
            "intensity.sum.value": np.arange(n, dtype=float),
            "intensity.sum.variance": np.ones(n),
            "flags": np.full(n, int(Flag.INTEGRATED_SUM), dtype=np.uint64),
        }
    )
    return ExperimentList(experiments), table


def test_lattices_are_split_and_unusable_reflections_left_out() -> None:
    experiments, table = made()
    table["intensity.sum.variance"][3] = 0.0
    table["intensity.sum.value"][4] = np.nan
    table["flags"][5] = int(Flag.FAILED_DURING_SUMMATION)
    table["id"][6] = -1
    seen: list[float] = []
    for part in range(2):
        for experiment, rows in split_lattices(experiments, table, part, 2):
            number = int(experiment.identifier[1:])
            assert number % 2 == part
            values = rows["intensity.sum.value"]
            assert (table["id"][values.astype(int)] == number).all()
            assert (np.diff(values) > 0).all()
            seen.extend(values)
    assert sorted(seen) == [*range(3), *range(7, 60)]


def test_profile_fits_are_merged_where_they_were_made() -> None:
    experiments, table = made()
    with pytest.raises(InputError, match=r"no column intensity\.prf\.value .*profile_fitting"):
        list(split_lattices(experiments, table, intensities="profile"))
    n = len(table)
    table["intensity.prf.value"] = 100 + np.arange(n, dtype=float)
    table["intensity.prf.variance"] = np.full(n, 0.5)
    fitted = np.arange(n) % 3 > 0
    table["flags"] |= np.where(fitted, np.uint64(Flag.INTEGRATED_PRF), np.uint64(0))
    found = [rows for _, rows in split_lattices(experiments, table, intensities="profile")]
    values = np.concatenate([rows["intensity.prf.value"] for rows in found])
    assert sorted(values - 100) == np.flatnonzero(fitted).tolist()
    assert "intensity.sum.value" not in found[0]


def test_reflections_of_an_experiment_that_is_not_there_are_an_error() -> None:
    experiments, table = made()
    with pytest.raises(InputError, match="4, but there are 3"):
        list(split_lattices(ExperimentList(experiments.experiments[:3]), table))
