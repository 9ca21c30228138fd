from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.errors import InputError
from exafel.merging.asu import MAX_INDEX, AsymmetricUnit, resolution

GROUPS = ["P 1", "P 1 21 1", "C 1 2 1", "P 41 21 2", "P 61 2 2", "R 3", "P 3 1 2", "I 2 3", "F 4 3 2"]


def reflections(n: int = 1500) -> np.ndarray:
    hkl = np.random.default_rng(3).integers(-25, 26, (n, 3))
    return hkl[np.any(hkl != 0, axis=1)]


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("merge_anomalous", [True, False])
def test_keys_are_equal_exactly_where_gemmi_finds_the_same_asu_index(name: str, merge_anomalous: bool) -> None:
    group = gemmi.SpaceGroup(name)
    asu, operations = gemmi.ReciprocalAsu(group), group.operations()
    hkl = reflections()
    keys = AsymmetricUnit(group, merge_anomalous=merge_anomalous).keys(hkl)
    expected = []
    for index in hkl.tolist():
        unique, symmetry = asu.to_asu(index, operations)
        apart = not merge_anomalous and not operations.is_reflection_centric(unique)
        expected.append((*unique, symmetry % 2 if apart else 0))
    by_key = dict(zip(keys.tolist(), expected, strict=True))
    assert [by_key[key] for key in keys.tolist()] == expected
    assert len(by_key) == len(set(expected))


@pytest.mark.parametrize("name", GROUPS)
def test_the_index_of_a_key_has_that_key(name: str) -> None:
    asu = AsymmetricUnit(gemmi.SpaceGroup(name), merge_anomalous=False)
    keys = asu.keys(reflections())
    assert np.array_equal(asu.keys(asu.indices(keys)), keys)


@pytest.mark.parametrize("name", GROUPS)
def test_absences_and_hands_are_those_of_gemmi(name: str) -> None:
    group = gemmi.SpaceGroup(name)
    hkl = reflections(400)
    asu = AsymmetricUnit(group, merge_anomalous=False)
    operations = group.operations()
    assert asu.absent(hkl).tolist() == [operations.is_systematically_absent(index) for index in hkl.tolist()]
    indices, plus = asu.ccp4(hkl)
    in_asu = gemmi.ReciprocalAsu(group)
    for index, unique, is_plus in zip(hkl.tolist(), indices.tolist(), plus.tolist(), strict=True):
        assert in_asu.is_in(unique)
        assert (unique, is_plus) == (in_asu.to_asu(index, operations)[0], in_asu.to_asu(index, operations)[1] % 2 == 1)


@given(st.lists(st.integers(-MAX_INDEX, MAX_INDEX), min_size=3, max_size=3), st.sampled_from(GROUPS))
def test_every_symmetry_equivalent_has_the_same_key(hkl: list[int], name: str) -> None:
    group = gemmi.SpaceGroup(name)
    equivalents = np.array([op.apply_to_hkl(hkl) for op in group.operations().sym_ops])
    allowed = np.abs(equivalents).max(axis=1) <= MAX_INDEX
    keys = AsymmetricUnit(group, merge_anomalous=False).keys(equivalents[allowed])
    assert len(set(keys.tolist())) == 1


def test_an_index_that_no_key_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="1024"):
        AsymmetricUnit(gemmi.SpaceGroup("P 1"), merge_anomalous=True).keys(np.array([[0, -1024, 3]]))


def test_resolution_is_that_of_gemmi_for_a_triclinic_cell() -> None:
    cell = gemmi.UnitCell(31.0, 42.0, 57.0, 81.0, 97.0, 103.0)
    hkl = reflections(50)
    expected = [cell.calculate_1_d2(index) for index in hkl.tolist()]
    assert resolution(hkl, cell) == pytest.approx(expected, rel=1e-12)
