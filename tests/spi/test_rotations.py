"""Orientations against matrices, and point groups against their orders and definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exafel.errors import ConfigError
from exafel.spi import rotations as r


def test_matrices_and_products_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = r.random_quaternions(20, rng), r.random_quaternions(20, rng)
    expected = [Rotation.from_quat(q, scalar_first=True) for q in (a, b)]
    np.testing.assert_allclose(r.matrices(a), expected[0].as_matrix(), atol=1e-12)
    np.testing.assert_allclose(r.matrices(r.multiply(a, b)), (expected[0] * expected[1]).as_matrix(), atol=1e-12)
    vectors = rng.normal(size=(20, 3))
    np.testing.assert_allclose(
        r.matrices(r.from_vectors(vectors)), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "order"), [("C1", 1), ("C3", 3), ("D2", 4), ("D8", 16), ("T", 12), ("O", 24), ("I", 60)]
)
def test_point_groups_are_closed_and_of_their_order(name: str, order: int) -> None:
    group = r.point_group(name)
    assert len(group) == order
    products = r.multiply(group[:, None], group[None]).reshape(-1, 4)
    nearest = np.abs(products @ group.T).max(axis=1)
    np.testing.assert_allclose(nearest, 1, atol=1e-9)


def test_an_unknown_point_group_is_named() -> None:
    with pytest.raises(ConfigError, match="'Q5' is no point group"):
        r.point_group("Q5")


def test_angles_are_modulo_the_particles_symmetry() -> None:
    rng = np.random.default_rng(2)
    q, group = r.random_quaternions(30, rng), r.point_group("D3")
    tilted = r.multiply(q, r.from_vectors(np.radians(4.0) * np.tile([[0.6, 0.0, 0.8]], (30, 1))))
    turned = r.multiply(tilted, group[rng.integers(6, size=30)])
    np.testing.assert_allclose(r.angle_deg(q, tilted), 4.0, atol=1e-6)
    np.testing.assert_allclose(r.angle_deg(turned, q, group), 4.0, atol=1e-6)
    assert np.median(r.angle_deg(turned, q)) > 50


def test_the_spiral_covers_rotations_evenly() -> None:
    spiral, probes = r.spiral_quaternions(4000), r.random_quaternions(500, np.random.default_rng(3))
    nearest = 2 * np.degrees(np.arccos(np.clip(np.abs(probes @ spiral.T).max(axis=1), 0, 1)))
    assert np.median(nearest) < 9.0  # 4000 random ones: about 9
    assert nearest.max() < 16.0
