from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.merge import HalvesConfig, HashHalvesConfig, ImageNumberHalvesConfig, ListedHalvesConfig
from exafel.errors import InputError
from exafel.io.experiment import Experiment, ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.merging.halves import in_odd_half


def experiment(identifier: str = "a", path: str = "shot.h5", index: int | None = None) -> Experiment:
    return Experiment(identifier, Beam(1.0), Detector(()), ImageRef(Path(path), index))


def halves(config: HalvesConfig) -> np.ndarray:
    return np.array([in_odd_half(experiment(f"shot-{number}"), config) for number in range(2000)])


def test_the_hash_makes_even_halves_that_another_seed_mixes() -> None:
    first, second = halves(HashHalvesConfig()), halves(HashHalvesConfig(seed=1))
    assert abs(first.mean() - 0.5) < 0.04
    assert abs((first == second).mean() - 0.5) < 0.04
    assert np.array_equal(first, halves(HashHalvesConfig()))


@pytest.mark.parametrize(
    ("path", "index", "odd"),
    [("run_7.h5", 2, False), ("run_2.h5", 3, True), ("thau_3_2_0013.cbf", None, True), ("idx-20.cbf", None, False)],
)
def test_image_numbers_are_those_in_the_file_or_of_the_file(path: str, index: int | None, odd: bool) -> None:
    assert in_odd_half(experiment(path=path, index=index), ImageNumberHalvesConfig()) is odd


def test_an_image_without_a_number_is_an_error_that_names_another_way() -> None:
    with pytest.raises(InputError, match="hash"):
        in_odd_half(experiment(path="image.cbf"), ImageNumberHalvesConfig())


def test_shots_without_identifiers_are_told_apart_by_their_images() -> None:
    found = [in_odd_half(experiment("", "run.h5", number), HashHalvesConfig()) for number in range(200)]
    assert 60 < sum(found) < 140


def test_a_list_names_the_odd_half() -> None:
    config = ListedHalvesConfig(odd=("b", "c"))
    assert [in_odd_half(experiment(name), config) for name in "abc"] == [False, True, True]
