"""Spots against those that real DIALS finds in the same images with the same parameters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from exafel.config.spotfinding import SpotFindingConfig
from exafel.io.frames import open_frames
from exafel.stills.masks import good_masks
from exafel.stills.spotfinding import find_spots

SCRIPT = Path(__file__).with_name("dials_spots.py")


def shares_in_common(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Fractions of the spots (panel, x, y) of each list that have one of the other within a pixel."""
    far = ours * [1e4, 1, 1], theirs * [1e4, 1, 1]
    return tuple(float(np.mean(cKDTree(other).query(own)[0] < 1)) for own, other in (far, far[::-1]))


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "number", "config"),
    [
        ("thaumatin_grid/thau_3_2_0005.cbf.bz2", 0, SpotFindingConfig(connectivity=4)),
        (
            "cspad_thermolysin/idx-20130301060858401.cbf",
            0,
            SpotFindingConfig(gain=25, global_threshold=100, connectivity=4),
        ),
        (
            "lysozyme_stills/lysozyme_stills.h5",
            7,
            SpotFindingConfig(kernel_size=(4, 4), sigma_strong=5, connectivity=4),
        ),
    ],
)
def test_spots_are_those_of_dials(
    shared_data: Path, dials: Path, tmp_path: Path, image: str, number: int, config: SpotFindingConfig
) -> None:
    parameters = [
        "spotfinder.threshold.algorithm=dispersion",
        f"spotfinder.threshold.dispersion.kernel_size={config.kernel_size[0]},{config.kernel_size[1]}",
        f"spotfinder.threshold.dispersion.sigma_strong={config.sigma_strong}",
        f"spotfinder.threshold.dispersion.global_threshold={config.global_threshold}",
        f"spotfinder.threshold.dispersion.gain={config.gain}",
        f"spotfinder.filter.min_spot_size={config.min_spot_size}",
        "spotfinder.mp.nproc=1",
    ]
    command = [str(dials / "dxtbx.python"), str(SCRIPT), str(shared_data / image), str(number), str(tmp_path)]
    done = subprocess.run([*command, *parameters], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = np.column_stack([np.load(tmp_path / "panel.npy"), np.load(tmp_path / "xy.npy")])
    source = open_frames([shared_data / image])
    frames, detector = source.frame(number), source.detector(number)
    spots = find_spots(frames, good_masks(frames, detector, source.mask(number)), detector, source.beam(number), config)
    ours = np.column_stack([spots["panel"], spots["xyzobs.px.value"][:, :2]])
    shares = shares_in_common(ours, theirs)
    assert len(theirs) > 30
    assert min(shares) >= 0.98, (len(ours), len(theirs), shares)
