from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.errors import ConfigError
from exafel.io.crystal import Crystal, space_group_of_hall


def test_every_hall_symbol_gives_its_own_group() -> None:
    for expected in gemmi.spacegroup_table():
        assert space_group_of_hall(" " + expected.hall).operations() == expected.operations()


def test_a_crystal_takes_its_symbol_for_halls() -> None:
    assert Crystal(np.eye(3), " P 4 2").space_group.hm == "P 4 2 2"


def test_a_hermann_mauguin_symbol_is_no_hall_symbol() -> None:
    with pytest.raises(ConfigError, match="P 41 21 2"):
        space_group_of_hall("P 41 21 2")
