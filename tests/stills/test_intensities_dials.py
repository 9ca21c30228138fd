"""Intensities of real shots against those of dials.stills_process on the same shots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from exafel.config.workflow import load_workflow_config
from exafel.io.expt import read_expt
from exafel.io.frames import open_frames
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.stills.reader import ShotReader
from exafel.stills.shot import Outcome, process_shot

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "config" / "examples"


def asu(table: ReflectionTable) -> np.ndarray:
    """Indices modulo 4/mmm."""
    hkl = np.abs(table["miller_index"])
    return np.column_stack([np.sort(hkl[:, :2], axis=1), hkl[:, 2]])


@pytest.mark.data
@pytest.mark.parametrize("number", [0, 4, 8])
def test_intensities_correlate_with_the_peers(shared_data: Path, number: int) -> None:
    config = load_workflow_config(EXAMPLES / "thaumatin_pilatus.yaml").stills
    reader = ShotReader(open_frames([shared_data / "thaumatin_grid"]), config.geometry)
    result = process_shot(reader, number, config)
    assert result.outcome == Outcome.INTEGRATED
    ours = result.lattices[0].integrated
    folder = shared_data / "dials_thaumatin"
    name = result.image.path.name.split(".")[0]
    peers = enumerate(read_expt(folder / "idx-0000_integrated.expt"))
    row = next(row for row, experiment in peers if experiment.image.path.name.startswith(name))
    all_peer = read_refl(folder / "idx-0000_integrated.refl")
    peer = all_peer.select(all_peer["id"] == row)
    distance, nearest = cKDTree(peer["xyzcal.px"][:, :2]).query(ours["xyzcal.px"][:, :2])
    common = (distance < 5) & (asu(ours) == asu(peer)[nearest]).all(axis=1)
    assert common.sum() > 0.8 * len(peer)
    pairs = ours["intensity.sum.value"][common], peer["intensity.sum.value"][nearest[common]]
    assert np.corrcoef(*pairs)[0, 1] >= 0.99
    assert np.polyfit(*pairs[::-1], 1)[0] == pytest.approx(1, abs=0.05)
