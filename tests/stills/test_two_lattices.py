"""Shots of two crystals, made by the forward model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exafel.config.spotfinding import SpotFindingConfig
from exafel.stills.masks import good_masks
from exafel.stills.spotfinding import find_spots

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "two_lattices.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six shots of the benchmark."""
    spec = importlib.util.spec_from_file_location("two_lattices", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations' names
    spec.loader.exec_module(module)
    return module.TwoCrystals(tmp_path_factory.mktemp("two"), 6, seed=5)


def test_both_lattices_are_found_and_no_other(made: Any) -> None:
    counts = [made.n_found(number) for number in range(6)]
    assert sum(found == 2 for found, _ in counts) >= 5, counts
    assert sum(foreign for _, foreign in counts) == 0


def test_the_spots_are_of_both(made: Any) -> None:
    frames, beam, crystals = made.shot(0)
    detector = made.source.detector(0)
    spots = find_spots(frames, good_masks(frames, detector), detector, beam, SpotFindingConfig())
    rlp = beam.reciprocal(detector.pixel_to_lab(spots["panel"], spots["xyzobs.px.value"][:, :2]))
    near = []
    for crystal in crystals:
        index = rlp @ crystal.real_space.T
        near.append(np.abs(index - np.rint(index)).max(axis=1) < 0.15)
    assert np.mean(near[0] | near[1]) > 0.95
    assert min(np.mean(near[0] & ~near[1]), np.mean(near[1] & ~near[0])) > 0.2
