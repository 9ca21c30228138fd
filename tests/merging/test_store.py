from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.errors import ExafelError
from exafel.merging.group import Observations, order_words
from exafel.merging.store import ObservationStore

N_LATTICES = 50


def lattice(number: int) -> Observations:
    rng = np.random.default_rng(number)
    words = order_words(np.sort(2 * rng.integers(1, 300, 100) + rng.integers(0, 2, 100)), number, odd=number % 2 == 0)
    return Observations(words, rng.normal(size=100), rng.random(100))


def filled(folder: Path, rows_in_memory: int) -> ObservationStore:
    store = ObservationStore(folder, rows_in_memory)
    for number in range(N_LATTICES):
        store.add(lattice(number))
    store.number(np.random.default_rng(0).permutation(N_LATTICES))
    return store


@pytest.mark.parametrize("rows_in_memory", [100, 777, 4900])
def test_observations_on_disk_are_those_in_memory(tmp_path: Path, rows_in_memory: int) -> None:
    (whole,) = filled(tmp_path / "a", 1_000_000).parts()
    store = filled(tmp_path / "b", rows_in_memory)
    assert store.on_disk
    for _ in range(2):  # they can be asked for again
        parts = list(store.parts())
        assert all(np.all(np.diff(part.order) >= 0) for part in parts)
        seen = [set(part.keys.tolist()) for part in parts]
        assert sum(len(keys) for keys in seen) == len(set.union(*seen))
        joined = Observations.concatenate(parts)
        rows = np.argsort(joined.order, kind="stable")
        assert np.array_equal(joined.order[rows], whole.order)
        assert np.array_equal(joined.intensity[rows], whole.intensity)
        assert np.array_equal(joined.variance[rows], whole.variance)


@pytest.mark.parametrize("rows_in_memory", [500, 1_000_000])
def test_lattices_can_be_left_out_later(tmp_path: Path, rows_in_memory: int) -> None:
    store = filled(tmp_path, rows_in_memory)
    numbers = np.arange(N_LATTICES)
    numbers[7] = -1
    store.renumber(numbers)
    store.renumber(np.where(numbers == 9, -1, numbers))
    left = set(np.concatenate([part.lattices for part in store.parts()]).tolist())
    assert left == set(range(N_LATTICES)) - {7, 9}


def test_files_of_a_killed_run_and_of_an_earlier_cycle_are_not_read(tmp_path: Path) -> None:
    filled(tmp_path, 500)
    store = filled(tmp_path, 500)
    assert sum(len(part) for part in store.parts()) == 100 * N_LATTICES
    store.clear()
    assert not list(tmp_path.iterdir())
    store.add(lattice(0))
    assert store.n_rows == 100


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    store = ObservationStore(tmp_path, 50)
    store.add(lattice(0))
    for path in list(tmp_path.iterdir()):
        path.unlink()
        path.symlink_to("/dev/full")
    with pytest.raises(ExafelError, match="cannot write observations") as caught:
        store.add(lattice(1))
    assert "rows_in_memory" in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExafelError, match="cannot write observations"):
        ObservationStore(tmp_path / "file", 50).add(lattice(0))


def test_no_observations_are_one_empty_part(tmp_path: Path) -> None:
    store = ObservationStore(tmp_path, 1000)
    store.number(np.zeros(0, dtype=np.int64))
    assert [len(part) for part in store.parts()] == [0]
