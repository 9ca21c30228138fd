"""Stage 1 on the 48 simulated lysozyme stills: errors against truth before and after, and core-seconds a shot.

Run with ``python benchmarks/stage1.py --data ../shared/data [--ranks 1 2 4] [--work DIR]``: errors of the first run,
and a row for each number of local processes; under mpiexec one row, of its ranks. The images have 100 energy channels,
and a fibre-optic point spread, which is modelled. The peer's figure is diffBragg's hopper (2023.8, Debian) on such a
still, 77 boxes of 15 x 15 pixels, recorded on a machine of this kind; CPU seconds include the reading of the image.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from exafel.bragg.shot_table import Row, read_table
from exafel.config.base import validate
from exafel.config.stage1 import Stage1Config
from exafel.config.workflow import load_workflow_config
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest
from exafel.io.truth import Truth, read_truth
from exafel.parallel.launch import launch
from exafel.parallel.mpi import launched_rank, launched_ranks
from exafel.steps import stage1, stills
from exafel.steps.stage1 import Stage1Summary
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
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(options.data, options.work or Path(scratch), options.ranks)


def run(data: Path, work: Path, ranks: list[int]) -> None:
    images, truth = data / "lysozyme_stills/lysozyme_stills.h5", read_truth(data / "lysozyme_stills/truth.json")
    launched = launched_ranks()
    launch(stills.run, stills.request(load_workflow_config(EXAMPLE).stills, [images], work / "stills"))
    rows = []
    for n in [launched] if launched > 1 else ranks:
        out = work / f"stage1-{n}"
        place = (validate(Stage1Config, CONFIG), [work / "stills"], data / "mtz/lysozyme_fcalc.mtz", out)
        began = time.monotonic()
        summary = launch(stage1.run, stage1.request(*place), ranks=1 if launched > 1 else n)
        rows.append((n, time.monotonic() - began, summary, refined_by(out) if launched_rank() == 0 else []))
    if launched_rank() != 0:
        return
    quality(rows[0][2], rows[0][3], (errors(work / "stills", truth), errors(work / f"stage1-{rows[0][0]}", truth)))
    print("\nranks  seconds  core-s/shot  shots/s  RSS MiB  the same as the first row")
    for n, wall, summary, refined in rows:
        same = [(row["Amats"], row["ncells"]) for row in refined] == [(r["Amats"], r["ncells"]) for r in rows[0][3]]
        cpu = summary.cpu_s_per_shot
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{n:5d}  {wall:7.2f}  {cpu:11.3f}  {summary.n_shots / wall:7.2f}  {rss:7d}  {same}")
    cpu = rows[-1][2].cpu_s_per_shot
    print(f"\npeer {PEER_CPU_S} core-s a shot: {PEER_CPU_S / cpu:.0f} times")
    print(f"2^19 shots on 4,096 ranks, by the last row: {SHOTS_A_RANK} shots a rank, {SHOTS_A_RANK * cpu:.0f} s")


def refined_by(folder: Path) -> list[Row]:
    """Rows of all ranks, in the order of the lattices."""
    rows = [row for file in read_manifest(folder).files(folder, "table") for row in read_table(file)]
    return sorted(rows, key=lambda row: row["image_index"])


def quality(summary: Stage1Summary, rows: list[Row], found: tuple[LatticeErrors, LatticeErrors]) -> None:
    before, after = found
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
    print(f"evaluations, median {summary.n_evaluations_median}")


def show(what: str, before: float, after: float) -> None:
    print(f"{what:28}{before:.4f}     {after:.4f}")


if __name__ == "__main__":
    main()
