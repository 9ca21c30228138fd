from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exafel.io.crystal import orthogonalization, space_group
from exafel.stills.misorientation import misorientation_deg, rotation_angle, rotation_operations

CELLS = {
    "P1": (41.0, 52.0, 67.0, 81.0, 95.0, 103.0),
    "P 1 21 1": (41.0, 52.0, 67.0, 90.0, 95.0, 90.0),
    "P 43 21 2": (79.1, 79.1, 38.4, 90.0, 90.0, 90.0),
    "P 61 2 2": (93.0, 93.0, 130.4, 90.0, 90.0, 120.0),
    "R 3 :H": (80.0, 80.0, 120.0, 90.0, 90.0, 120.0),
    "I 2 3": (90.0, 90.0, 90.0, 90.0, 90.0, 90.0),
}
ORDER = {"P1": 1, "P 1 21 1": 2, "P 43 21 2": 8, "P 61 2 2": 12, "R 3 :H": 3, "I 2 3": 12}


def setting(cell: tuple[float, ...], seed: int) -> np.ndarray:
    rotation = Rotation.random(random_state=seed).as_matrix()
    return rotation @ np.linalg.inv(orthogonalization(cell)).T


@pytest.mark.parametrize("name", CELLS)
def test_the_laue_group_has_its_order(name: str) -> None:
    operations = rotation_operations(space_group(name))
    assert len(operations) == ORDER[name]
    np.testing.assert_allclose(np.linalg.det(operations), 1.0)


def test_the_lattice_can_have_more_symmetry_than_the_crystal() -> None:
    group = space_group("I 2 3")
    assert len(rotation_operations(group, CELLS["I 2 3"])) == 24


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(CELLS)),
    seed=st.integers(0, 10_000),
    angle_deg=st.floats(1e-6, 5.0),
    pick=st.integers(0, 100),
)
def test_recovers_the_angle_between_reindexed_settings(name: str, seed: int, angle_deg: float, pick: int) -> None:
    first = setting(CELLS[name], seed)
    operations = rotation_operations(space_group(name))
    axis = Rotation.random(random_state=seed + 1).apply([0.0, 0.0, 1.0])
    turn = Rotation.from_rotvec(np.radians(angle_deg) * axis).as_matrix()
    second = turn @ first @ operations[pick % len(operations)]
    assert misorientation_deg(first, second, space_group(name)) == pytest.approx(angle_deg, rel=1e-6, abs=1e-9)
    assert misorientation_deg(second, first, space_group(name)) == pytest.approx(angle_deg, rel=1e-6, abs=1e-9)


def test_without_equivalence_the_indexing_counts() -> None:
    group = space_group("P 43 21 2")
    first = setting(CELLS["P 43 21 2"], 3)
    fourfold = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert misorientation_deg(first, first @ fourfold, group, equivalence="none") == pytest.approx(90.0)
    assert misorientation_deg(first, first @ fourfold, group) == pytest.approx(0.0, abs=1e-9)


def test_an_indexing_ambiguity_is_a_lattice_equivalence_only() -> None:
    group = space_group("I 2 3")
    first = setting(CELLS["I 2 3"], 4)
    fourfold = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert misorientation_deg(first, first @ fourfold, group) == pytest.approx(90.0)
    assert misorientation_deg(first, first @ fourfold, group, equivalence="lattice") == pytest.approx(0.0, abs=1e-9)


def test_slightly_different_cells_are_compared_by_orientation_alone() -> None:
    first = setting((79.1, 79.1, 38.4, 90.0, 90.0, 90.0), 5)
    second = setting((79.3, 79.3, 38.3, 90.0, 90.0, 90.0), 5)
    assert misorientation_deg(first, second, space_group("P 43 21 2")) == pytest.approx(0.0, abs=1e-9)


def test_opposite_hands_are_refused() -> None:
    first = setting(CELLS["P1"], 6)
    with pytest.raises(ValueError, match="opposite hands"):
        misorientation_deg(first, -first, space_group("P1"))


def test_tiny_rotations_keep_their_angle() -> None:
    assert rotation_angle(Rotation.from_rotvec([0, 1e-9, 0]).as_matrix()) == pytest.approx(1e-9, rel=1e-6)
    assert rotation_angle(Rotation.from_rotvec([np.pi, 0, 0]).as_matrix()) == pytest.approx(np.pi)
