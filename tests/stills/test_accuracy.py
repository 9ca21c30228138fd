"""Errors of lattices against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.io.crystal import Crystal, orthogonalization, space_group
from exafel.stills.accuracy import lattice_errors

HALL = str(space_group("P43212").hall)
CELL = (42.0, 42.0, 89.0, 90.0, 90.0, 90.0)


def crystal(cell: tuple[float, ...], turn_deg: float = 0.0) -> Crystal:
    angle = np.radians(turn_deg)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return Crystal((turn @ orthogonalization(cell)).T, HALL)


def test_turns_and_cells_are_measured_modulo_the_laue_group() -> None:
    true = crystal(CELL)
    fourfold = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    reindexed = Crystal(fourfold @ crystal(CELL, 0.25).real_space, HALL)
    longer = crystal((42.1, 42.1, 89.2, 90.0, 90.0, 90.0), 0.5)
    errors = lattice_errors([(reindexed, true), (longer, true)])
    assert errors.misorientation_deg == pytest.approx([0.25, 0.5], abs=1e-6)
    np.testing.assert_allclose(errors.cell_angstrom, [[0, 0, 0], [0.1, 0.1, 0.2]], atol=1e-9)
    assert errors.cell_rms_angstrom == pytest.approx(np.array([0.1, 0.1, 0.2]) / np.sqrt(2))
    assert errors.better_than(0.3).cell_rms_angstrom == pytest.approx((0, 0, 0), abs=1e-9)


def test_nothing_is_no_lattices() -> None:
    assert len(lattice_errors([])) == 0
