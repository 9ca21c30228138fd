"""The dense table of structure factors: symmetry and Friedel mates."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.bragg.structure_factors import structure_factor_table
from exafel.errors import InputError
from exafel.io.crystal import space_group


@pytest.mark.parametrize(("name", "multiplicity"), [("P1", 2), ("P43212", 16), ("P6122", 24), ("C2", 4), ("F432", 48)])
def test_all_equivalents_of_a_general_reflection_are_there(name: str, multiplicity: int) -> None:
    table = structure_factor_table(np.array([[2, 4, 6]]), np.array([3.0]), space_group(name))
    assert np.count_nonzero(table.f_squared) == multiplicity
    assert set(table.f_squared[table.f_squared > 0]) == {9.0}
    assert table.lookup(np.array([[2, 4, 6], [-2, -4, -6], [2, 4, 7], [99, 0, 0]])).tolist() == [9, 9, 0, 0]


def test_equivalents_are_those_of_the_group() -> None:
    group = space_group("P6122")
    table = structure_factor_table(np.array([[1, 2, 3]]), np.array([1.0]), group)
    for operation in group.operations().sym_ops:
        assert table.lookup(np.array([operation.apply_to_hkl([1, 2, 3])])) == 1.0


def test_bijvoet_mates_stay_apart() -> None:
    hkl = np.array([[1, 2, 3], [-1, -2, -3]])
    table = structure_factor_table(hkl, np.array([2.0, 3.0]), space_group("P43212"), anomalous=True)
    assert table.lookup(hkl).tolist() == [4.0, 9.0]
    assert table.lookup(np.array([[2, 1, -3]])) == 4.0


def test_nothing_and_nonsense_are_refused() -> None:
    for values in ([], [np.nan]):
        with pytest.raises(InputError, match="finite"):
            structure_factor_table(np.ones((len(values), 3)), np.array(values), space_group("P1"))
