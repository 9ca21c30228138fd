"""Postrefinement of made stills whose parameters are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exafel._kernels import postrefine_normal, still_factors
from exafel.config.scaling import PostrefinementConfig
from exafel.merging.postrefine import PARAMETERS, StillObservations, postrefine, starting_values

S0 = np.array([0.0, 0.0, -1.0 / 1.3])
INDICES = np.stack(np.meshgrid(*[np.arange(-25, 26)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
RADIUS, ETA = 5e-4, 1.2e-3
TRUE = np.array([3.0, 2.0, RADIUS, ETA, 0.0, 0.0])


def still(seed: int, tilt_deg: tuple[float, float] = (0.08, -0.05), noise: float = 2.0) -> StillObservations:
    """Reflections near the Ewald sphere of a crystal whose orientation is off by a small rotation."""
    rng = np.random.default_rng(seed)
    found = Rotation.random(random_state=seed).as_matrix() / 60.0
    true = Rotation.from_euler("xy", tilt_deg, degrees=True).as_matrix() @ found
    nodes = INDICES @ true.T
    distance = np.linalg.norm(nodes + S0, axis=1) - np.linalg.norm(S0)
    length = np.linalg.norm(nodes, axis=1)
    near = (np.abs(distance) < 2 * (RADIUS + ETA * length / 2)) & (length > 0.02) & (length < 0.4)
    scale, partiality = still_factors(TRUE, S0, np.ascontiguousarray(nodes[near]))
    reference = 1000.0 * rng.exponential(size=int(near.sum()))
    observed = scale * partiality * reference + rng.normal(0, noise, len(reference))
    there = np.ascontiguousarray(INDICES[near] @ found.T)
    return StillObservations(there, S0, observed, np.full(len(reference), noise**2 + 1e-6), reference)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", ["rs", "rs2"])
def test_orientation_scale_b_and_radii_come_back(algorithm: str, seed: int) -> None:
    data = still(seed)
    refined = postrefine(data, PostrefinementConfig(algorithm=algorithm))
    assert refined is not None
    scale, b_factor, radius, eta, theta_x, theta_y = refined.values
    assert np.degrees([theta_x, theta_y]) == pytest.approx([0.08, -0.05], abs=2e-3)
    assert scale == pytest.approx(TRUE[0], rel=0.05)
    assert b_factor == pytest.approx(TRUE[1], abs=0.5)
    assert radius == pytest.approx(RADIUS, rel=0.1)
    assert eta == pytest.approx(ETA, rel=0.1)
    assert refined.correlation > 0.995


def test_both_algorithms_find_one_minimum() -> None:
    data = still(5)
    one = postrefine(data, PostrefinementConfig(algorithm="rs"))
    other = postrefine(data, PostrefinementConfig(algorithm="rs2", target_weighting="unit"))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.values, other.values, rtol=2e-3, atol=1e-6)


@given(st.integers(0, 20), st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
@settings(max_examples=25, deadline=None)
def test_derivatives_are_those_of_differences(seed: int, shift: list[float]) -> None:
    data = still(seed % 4)
    steps = np.array([0.5, 2.0, 1e-4, 3e-4, 2e-3, 2e-3])
    at = TRUE + steps * np.array(shift)
    arguments = (data.s0, data.nodes, data.observed, data.reference, 1.0 / data.variance)
    _, gradient, normal = postrefine_normal(at, *arguments)
    assert np.array_equal(normal, normal.T)
    assert np.linalg.eigvalsh(normal / np.sqrt(np.outer(np.diag(normal), np.diag(normal)))).min() > -1e-9
    for place in range(len(PARAMETERS)):
        step = np.zeros(6)
        step[place] = 1e-5 * steps[place]
        difference = postrefine_normal(at + step, *arguments)[0] - postrefine_normal(at - step, *arguments)[0]
        size = np.sqrt(normal[place, place] * postrefine_normal(at, *arguments)[0])
        assert difference / (2 * step[place]) == pytest.approx(gradient[place], rel=1e-5, abs=1e-5 * size)


def test_partiality_is_one_on_the_sphere_and_a_third_at_one_radius_from_it() -> None:
    length = np.linalg.norm(S0)
    toward = np.array([0.6, 0.0, -0.8])
    on, off = toward * length - S0, toward * (length + RADIUS) - S0
    values = np.array([2.0, 0.0, RADIUS, 0.0, 0.0, 0.0])
    scale, partiality = still_factors(values, S0, np.stack([on, off]))
    assert partiality.tolist() == pytest.approx([1.0, 1 / 3])
    assert scale.tolist() == pytest.approx([2.0, 2.0])


def test_parameters_that_are_not_refined_keep_their_values() -> None:
    data = still(1)
    start = starting_values(data)
    refined = postrefine(data, PostrefinementConfig(refine=("G", "thetax"), max_rotation_deg=5))
    assert start is not None
    assert refined is not None
    assert refined.values[[1, 2, 3, 5]].tolist() == start[[1, 2, 3, 5]].tolist()
    assert refined.values[4] != 0


def test_a_lattice_that_leaves_the_limits_or_has_nothing_left_is_refused() -> None:
    data = still(2, tilt_deg=(0.3, 0.0))
    assert postrefine(data, PostrefinementConfig(max_rotation_deg=0.2)) is None
    assert postrefine(data, PostrefinementConfig(partiality_threshold=0.99, min_reflections=100)) is None
    flipped = StillObservations(data.nodes, data.s0, -data.observed, data.variance, data.reference)
    assert postrefine(flipped, PostrefinementConfig()) is None
    few = StillObservations(data.nodes[:4], S0, data.observed[:4], data.variance[:4], data.reference[:4])
    assert postrefine(few, PostrefinementConfig()) is None


def test_a_parameter_without_effect_is_no_failure() -> None:
    """Nodes on the sphere: neither radii nor rotations change anything to first order."""
    data = still(3)
    rays = data.nodes + data.s0
    on_sphere = rays / np.linalg.norm(rays, axis=1)[:, None] * np.linalg.norm(S0) - S0
    nudged = on_sphere * (1 + 1e-9)
    refined = postrefine(
        StillObservations(nudged, S0, 2.0 * data.reference, data.variance, data.reference), PostrefinementConfig()
    )
    assert refined is None or refined.values[0] == pytest.approx(2.0, rel=0.05)


def test_wrong_shapes_are_refused() -> None:
    data = still(0)
    with pytest.raises(ValueError, match="six parameters"):
        still_factors(TRUE[:5], S0, data.nodes)
    with pytest.raises(ValueError, match="differ in length"):
        postrefine_normal(TRUE, S0, data.nodes, data.observed[1:], data.reference, data.variance)
