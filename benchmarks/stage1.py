"""Stage 1 on the 48 simulated lysozyme stills: errors against truth before and after, and core-seconds a shot.

Run with ``python benchmarks/stage1.py --data ../shared/data [--work DIR]``. The images have 100 energy channels, and a
fibre-optic point spread, which is modelled. The peer's figure is diffBragg's hopper (2023.8, Debian) on such a still,
77 boxes of 15 x 15 pixels, recorded on a machine of this kind; CPU seconds include the reading of the image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from exafel.bragg.shot_table import read_table
from exafel.config.base import validate
from exafel.config.stage1 import Stage1Config
from exafel.config.workflow import load_workflow_config
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest
from exafel.io.truth import Truth, read_truth
from exafel.parallel.launch import launch
from exafel.steps import stage1, stills
from exafel.stills.accuracy import LatticeErrors, lattice_errors

PEER_CPU_S = 49.0
TRUE_N_CELLS = 30.0
EXAMPLE = Path(__file__).parent.parent / "workflows/config/examples/lysozyme_stills.yaml"
CONFIG = {"psf": {"type": "fiber", "fwhm_mm": 0.055}}
SHOTS_A_RANK = 2**19 // 4096


def errors(folder: Path, truth: Truth) -> LatticeErrors:
    found = [item for file in read_manifest(folder).files(folder, "expt") for item in read_expt(file)]
    found.sort(key=lambda item: item.image.index)
    return lattice_errors([(item.crystal, truth.find(item.image).crystal) for item in found], equivalence="laue")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(options.data, options.work or Path(scratch), options.ranks)


def run(data: Path, work: Path, ranks: int) -> None:
    images, truth = data / "lysozyme_stills/lysozyme_stills.h5", read_truth(data / "lysozyme_stills/truth.json")
    launch(stills.run, stills.request(load_workflow_config(EXAMPLE).stills, [images], work / "stills"))
    config = validate(Stage1Config, CONFIG)
    began = time.monotonic()
    place = (config, [work / "stills"], data / "mtz/lysozyme_fcalc.mtz", work / "stage1")
    summary = launch(stage1.run, stage1.request(*place), ranks=ranks)
    wall = time.monotonic() - began
    before, after = errors(work / "stills", truth), errors(work / "stage1", truth)
    rows = [row for file in read_manifest(work / "stage1").files(work / "stage1", "table") for row in read_table(file)]
    n_cells = np.array([row["ncells"] for row in rows])
    turned = np.asarray(after.misorientation_deg) < np.asarray(before.misorientation_deg)
    cells = [np.linalg.norm(item.cell_angstrom, axis=1) for item in (before, after)]
    angles = [np.asarray(item.misorientation_deg) for item in (before, after)]
    print(f"lattices refined            {summary.n_refined} of {summary.n_shots}, {summary.n_flagged} flagged")
    print("                            before     after")
    show("misorientation, median, deg", *(float(np.median(item)) for item in angles))
    show("misorientation, largest", *(float(item.max()) for item in angles))
    show("rms error of a, A", before.cell_rms_angstrom[0], after.cell_rms_angstrom[0])
    show("rms error of c, A", before.cell_rms_angstrom[2], after.cell_rms_angstrom[2])
    show("sigma(Z), median", summary.sigz_before or 0.0, summary.sigz_after or 0.0)
    print(f"better: orientation {turned.mean():.0%}, cell {(cells[1] < cells[0]).mean():.0%}")
    within = (np.abs(n_cells / TRUE_N_CELLS - 1) < 0.1).all(axis=1).mean()
    print(f"cells of a block: median {np.median(n_cells, axis=0).round(2)}, truth 30; within 10 %: {within:.0%}")
    print(f"evaluations, median {summary.n_evaluations_median}; {wall:.1f} s on {ranks} ranks")
    cpu = summary.cpu_s_per_shot
    print(f"core-s a shot {cpu:.3f}, peer {PEER_CPU_S}: {PEER_CPU_S / cpu:.0f} times")
    print(f"2^19 shots on 4,096 cores: {SHOTS_A_RANK} shots a rank, {SHOTS_A_RANK * cpu:.0f} s, nothing exchanged")


def show(what: str, before: float, after: float) -> None:
    print(f"{what:28}{before:.4f}     {after:.4f}")


if __name__ == "__main__":
    main()
