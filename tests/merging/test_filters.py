from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.config.merge import SignificanceFilterConfig, UnitCellFilterConfig
from exafel.merging.filters import equal_volume_shells, same_laue_group, significant, similar_cells

CELL = (58.0, 58.0, 150.0, 90.0, 90.0, 90.0)


@pytest.mark.parametrize(
    ("cell", "similar"),
    [
        (CELL, True),
        ((59.7, 58.0, 150.0, 90.0, 90.0, 90.0), True),
        ((59.8, 58.0, 150.0, 90.0, 90.0, 90.0), False),
        ((58.0, 58.0, 145.0, 90.0, 90.0, 90.0), False),
        ((58.0, 58.0, 150.0, 90.0, 91.9, 90.0), True),
        ((58.0, 58.0, 150.0, 90.0, 92.1, 90.0), False),
    ],
)
def test_cells_are_compared_edge_by_edge(cell: tuple[float, ...], similar: bool) -> None:
    config = UnitCellFilterConfig(relative_length_tolerance=0.03, absolute_angle_tolerance_deg=2.0)
    assert similar_cells(cell, CELL, config) is similar


def test_a_screw_axis_does_not_change_the_laue_group_but_centring_and_axes_do() -> None:
    assert same_laue_group("-P 4 2", "P 4abw 2nw")
    assert not same_laue_group("P 4", "P 4 2")
    assert same_laue_group("P 4w", "-P 4")
    assert not same_laue_group("I 4 2", "P 4 2")


@pytest.mark.parametrize(("one", "other"), [("P 3 1 2", "P 3 2 1"), ("P 1 1 2", "P 1 2 1"), ("R 3:H", "R 3:R")])
def test_groups_of_one_name_of_laue_group_but_other_axes_do_not_go_together(one: str, other: str) -> None:
    first, second = gemmi.SpaceGroup(one), gemmi.SpaceGroup(other)
    assert first.laue_str() == second.laue_str()
    assert not same_laue_group(first.hall, second.hall)
    assert same_laue_group(first.hall, first.hall)


def test_shells_have_equal_volume_in_reciprocal_space() -> None:
    limits = equal_volume_shells(0.01, 0.25, 7)
    volumes = np.diff(limits**1.5)
    assert volumes == pytest.approx(np.full(7, volumes[0]))
    assert (limits[0], limits[-1]) == (0.01, 0.25)


def lattice(n: int, last_good: float) -> tuple[np.ndarray, np.ndarray]:
    """Reflections of even density in reciprocal space, with I/sigma 3 up to 1/d^2 = last_good and 0 beyond."""
    rng = np.random.default_rng(2)
    d_star_sq = 0.25 * rng.random(n) ** (2 / 3)
    d_star_sq[:2] = 0.25, 0.0005
    return d_star_sq, np.where(d_star_sq <= last_good, 3.0, 0.0)


def test_a_lattice_is_cut_where_its_signal_ends() -> None:
    d_star_sq, ratio = lattice(4000, 0.15)
    config = SignificanceFilterConfig(n_bins=12, min_ct=10, max_ct=50, sigma=0.5)
    kept = significant(d_star_sq, ratio, config)
    shell = np.diff(equal_volume_shells(0.0005, 0.25, 80)).max()
    assert kept[d_star_sq < 0.15 - shell].all()
    assert not kept[d_star_sq > 0.15 + shell].any()


def test_signal_beyond_the_first_weak_shell_does_not_count() -> None:
    d_star_sq, ratio = lattice(2000, 0.10)
    ratio[d_star_sq > 0.2] = 100.0
    kept = significant(d_star_sq, ratio, SignificanceFilterConfig())
    assert kept.any()
    assert not kept[d_star_sq > 0.15].any()


def test_a_lattice_without_signal_has_nothing_left_and_few_reflections_make_one_shell() -> None:
    d_star_sq, ratio = lattice(200, 0.25)
    config = SignificanceFilterConfig()
    assert not significant(d_star_sq, ratio - 3.0, config).any()
    assert significant(d_star_sq[:5], ratio[:5], config).all()
    assert len(significant(d_star_sq[:0], ratio[:0], config)) == 0
