"""Joint refinement recovers a detector that was moved, from the spots of many lattices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exafel.config.base import validate
from exafel.config.refine_detector import RefineDetectorConfig
from exafel.errors import ConfigError
from exafel.io.crystal import space_group
from exafel.io.geometry import Detector
from exafel.stills.detector_motion import motion_derivatives, move_parts, parts_of
from exafel.stills.joint_refinement import JointData, refine_jointly

HALL = str(space_group("P43212").hall)


def config(**parameters: object) -> RefineDetectorConfig:
    return validate(RefineDetectorConfig, parameters)


def joint_data(synthetic: SimpleNamespace, n: int, rng: np.random.Generator) -> JointData:
    """Spots of shots on the true detector, and lattices a little off; cells scatter by a thousandth."""
    settings, columns = [], []
    for number in range(n):
        a, c = np.array([79.1, 38.4]) * (1 + 1e-3 * rng.normal(size=2))
        A = synthetic.setting((a, a, c, 90, 90, 90), rng)
        shot = synthetic.shot([A], rng, hall=HALL, d_min=2.2)
        spots, hkl = shot.spots, shot.hkl.astype(np.float64)
        columns.append((np.full(len(hkl), number), spots["panel"].astype(int), hkl, spots["xyzobs.px.value"][:, :2]))
        turn = Rotation.from_rotvec(5e-4 * rng.normal(size=3)).as_matrix()
        settings.append(1.002 * turn @ A)
    s0 = np.tile([0.0, 0.0, -1.0], (n, 1))
    joined = [np.concatenate(part) for part in zip(*columns, strict=True)]
    return JointData(np.stack(settings), s0, HALL, *joined, np.full(len(joined[0]), 1 / 1.3))


def offsets_mm(found: Detector, true: Detector) -> np.ndarray:
    """Errors of the panels' centres, but for a turn of everything about the beam, which no still can tell."""
    middle = np.array([[500.0, 500.0]])
    centres = np.array([panel.pixel_to_lab(middle)[0] for panel in true.panels])
    error = np.array([panel.pixel_to_lab(middle)[0] for panel in found.panels]) - centres
    turned = np.column_stack([-centres[:, 1], centres[:, 0]])
    error[:, :2] -= (turned * error[:, :2]).sum() / (turned**2).sum() * turned
    return error


def test_a_moved_detector_comes_back(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    true = synthetic.detector()
    whole = parts_of(true, "detector", config())
    wrong = move_parts(true, whole, np.array([[0.25, -0.15, 0.6, 0.002, -0.003, 0.0]]))
    data = joint_data(synthetic, 15, rng)
    result = refine_jointly(data, wrong, config())
    assert result.rmsd_before_px > 2.5
    assert result.rmsd_after_px < 0.36  # 0.2 px along each axis and what the lattices' free parameters take
    error = offsets_mm(result.detector, true)
    assert np.abs(error[:, :2]).max() < 0.004
    assert np.abs(error[:, 2]).max() < 0.03


def test_single_panels_come_back_with_the_whole(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(1)
    true = synthetic.detector()
    whole = move_parts(true, parts_of(true, "detector", config()), np.array([[0.1, 0.1, -0.4, 0.0, 0.001, 0.0]]))
    panels = parts_of(whole, "panels", config())
    wrong = move_parts(whole, panels, rng.normal(size=(4, 6)) * [0.05, 0.05, 0, 0, 0, 0.001])
    data = joint_data(synthetic, 15, rng)
    coarse = refine_jointly(data, wrong, config())
    result = refine_jointly(data, wrong, config(levels=("detector", "panels")))
    assert result.n_moved == result.n_parts == 4
    assert coarse.rmsd_after_px > 1.3 * result.rmsd_after_px
    assert np.abs(offsets_mm(result.detector, true)).max() < 0.03
    assert np.abs(offsets_mm(result.detector, true)[:, :2]).max() < 0.005


def test_groups_move_together_and_others_stay(synthetic: SimpleNamespace) -> None:
    rng = np.random.default_rng(2)
    true = synthetic.detector()
    settings = config(levels=("groups",), groups=((0, 2),))
    wrong = move_parts(true, parts_of(true, "groups", settings), np.array([[0.12, -0.08, 0, 0, 0, 0]]))
    result = refine_jointly(joint_data(synthetic, 12, rng), wrong, settings)
    for number in (1, 3):
        np.testing.assert_array_equal(result.detector[number].origin_mm, true[number].origin_mm)
    assert np.abs(result.detector[0].origin_mm - true[0].origin_mm).max() < 0.006
    np.testing.assert_allclose(
        result.detector[0].origin_mm - result.detector[2].origin_mm, true[0].origin_mm - true[2].origin_mm, atol=0.006
    )


def test_a_part_with_too_few_spots_stays(synthetic: SimpleNamespace) -> None:
    true = synthetic.detector()
    data = joint_data(synthetic, 4, np.random.default_rng(3))
    result = refine_jointly(data, true, config(levels=("panels",), min_reflections=100_000))
    assert (result.n_parts, result.n_moved) == (4, 0)
    np.testing.assert_array_equal(result.detector[1].origin_mm, true[1].origin_mm)


@pytest.mark.parametrize("level", ["detector", "panels"])
def test_derivatives_are_those_of_moved_panels(synthetic: SimpleNamespace, level: str) -> None:
    rng = np.random.default_rng(4)
    detector = synthetic.detector()
    parts = parts_of(detector, level, config(out_of_plane=True))
    rays = np.column_stack([rng.uniform(-0.5, 0.5, size=(50, 2)), np.full(50, -1.0)])
    panel, _ = detector.ray_to_pixel(rays)
    panel, rays = panel[panel >= 0], rays[panel >= 0]
    found = motion_derivatives(detector, panel, rays, parts)
    for column, motion in enumerate(parts.free):
        positions = []
        for sign in (1, -1):
            motions = np.zeros((len(parts), 6))
            motions[:, motion] = sign * 1e-4
            moved = move_parts(detector, parts, motions)
            xy = [moved[int(n)].ray_to_pixel(ray[None])[0][0] for n, ray in zip(panel, rays, strict=True)]
            positions.append(np.array(xy))
        np.testing.assert_allclose(found[:, :, column], (positions[0] - positions[1]) / 2e-4, rtol=1e-3, atol=1e-3)


def test_groups_of_the_hierarchy(synthetic: SimpleNamespace) -> None:
    frame = {"fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0], "origin": [0, 0, 0]}
    halves = [{**frame, "children": [{"panel": first}, {"panel": first + 2}]} for first in (0, 1)]
    inner = {**frame, "children": halves}
    detector = Detector(synthetic.detector().panels, {**frame, "children": [inner]})
    np.testing.assert_array_equal(parts_of(detector, "groups", config(depth=1)).of_panel, [0, 0, 0, 0])
    np.testing.assert_array_equal(parts_of(detector, "groups", config(depth=2)).of_panel, [0, 1, 0, 1])
    for wrong in (detector, synthetic.detector()):
        with pytest.raises(ConfigError, match="no groups at depth 3"):
            parts_of(wrong, "groups", config(depth=3))
    with pytest.raises(ConfigError, match="no panel 9"):
        parts_of(detector, "groups", config(groups=((0, 9),)))
    for groups in (((0, 1), (1, 2)), ((),)):
        with pytest.raises(ConfigError, match="every group"):
            config(groups=groups)
