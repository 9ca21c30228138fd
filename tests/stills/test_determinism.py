"""What comes out for a shot depends on that shot alone: not on the order, not on its neighbours, not on caches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.base import validate
from exafel.config.stills import StillsConfig
from exafel.io.frames import open_frames
from exafel.io.synthetic import SyntheticSource
from exafel.stills.reader import ShotReader
from exafel.stills.shot import ShotResult, process_shot

KNOWN = {"unit_cell": [40, 50, 60, 90, 90, 90], "space_group": "P222", "max_lattices": 2}
CONFIGS = {
    "known cell": {"indexing": KNOWN, "integration": {"d_min": 1.9}},
    "all that is kept between shots": {
        "spotfinding": {"algorithm": "radial", "sigma_strong": 6, "ring_width_px": 2},
        "untrusted": {"border_px": 3, "beam_stop_radius_mm": 2.0, "d_max": 25.0, "resolution_ranges": [[3.1, 3.05]]},
        "indexing": KNOWN,
        "integration": {"d_min": 1.9, "profile_fitting": True},
    },
    "no cell": {"spotfinding": {"algorithm": "dispersion_extended"}, "indexing": {"max_cell_angstrom": 100}},
}


def read_images(still_images: Path) -> SyntheticSource:
    """Shots of unlike wavelength: what depends on it must not be taken from another shot."""
    source = open_frames([still_images])
    beams = [
        type(beam)(**{**vars(beam), "wavelength_angstrom": beam.wavelength_angstrom * (1 + 0.0005 * number)})
        for number, beam in ((n, source.beam(n)) for n in range(4))
    ]
    return SyntheticSource(source.detector(0), beams, [source.frame(number) for number in range(4)])


def everything(result: ShotResult) -> list[object]:
    """All numbers of a result but its timings."""
    tables = [result.spots, *(table for item in result.lattices for table in (item.integrated, item.indexed))]
    columns = [(name, table[name].tobytes()) for table in tables for name in sorted(table)]
    cells = [item.experiment.crystal.real_space.tobytes() for item in result.lattices if item.experiment.crystal]
    return [result.outcome, result.reason, result.sigma_px, result.d_min_spots, cells, columns]


@pytest.mark.parametrize("name", list(CONFIGS))
def test_order_and_neighbours_change_nothing(still_images: Path, name: str) -> None:
    config = validate(StillsConfig, CONFIGS[name])
    alone = {}
    for number in range(4):
        reader = ShotReader(read_images(still_images), config.geometry, config.untrusted)
        alone[number] = everything(process_shot(reader, number, config))
    assert any(result[0] == "integrated" for result in alone.values())
    reader = ShotReader(read_images(still_images), config.geometry, config.untrusted)
    for number in (3, 1, 0, 3):
        assert everything(process_shot(reader, number, config)) == alone[number]


def test_the_configuration_is_not_changed_by_processing(still_images: Path) -> None:
    config = validate(StillsConfig, CONFIGS["known cell"])
    before = config.model_dump_json()
    reader = ShotReader(read_images(still_images), config.geometry)
    frames = [frame.copy() for frame in reader.read(0).frames]
    process_shot(reader, 0, config)
    assert config.model_dump_json() == before
    for old, new in zip(frames, reader.read(0).frames, strict=True):
        np.testing.assert_array_equal(old, new)
