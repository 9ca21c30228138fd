from __future__ import annotations

import numpy as np
import pytest

from exafel.errors import InputError
from exafel.merging.table import order_table

ROWS = np.arange(60.0).reshape(5, 12)


def test_lattices_follow_their_digests_even_where_the_first_halves_agree() -> None:
    digests = np.array([[9, 1], [5, 7], [5, 2], [5, 9], [1, 0]], dtype=np.uint64)
    table, numbers = order_table(digests, ROWS)
    assert numbers.tolist() == [4, 2, 1, 3, 0]
    assert table.digests[numbers].tolist() == digests.tolist()
    assert table.cells[numbers].tolist() == ROWS[:, :6].tolist()
    assert table.n_kept[numbers].tolist() == ROWS[:, 10].tolist()


def test_a_lattice_that_is_there_twice_is_an_error() -> None:
    digests = np.array([[1, 1], [2, 2], [3, 3], [2, 2], [5, 5]], dtype=np.uint64)
    with pytest.raises(InputError, match="1 lattices are in the input twice"):
        order_table(digests, ROWS)


def test_chosen_lattices_are_taken_with_all_their_columns() -> None:
    table, _ = order_table(np.array([[n, 0] for n in range(5)], dtype=np.uint64), ROWS)
    some = table.take(np.array([True, False, True, False, False]))
    assert len(some) == 2
    assert some.scales.tolist() == [table.scales[0], table.scales[2]]
    assert some.average_cell() == tuple(table.cells[[0, 2]].mean(axis=0))
