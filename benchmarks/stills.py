"""Speed of the stills step on real images: megapixels a second of spot finding, CPU seconds an image by phase.

    python benchmarks/stills.py [--data ../shared/data] [--repeats 5] [--no-cell]

Where DIALS is installed, its dispersion threshold runs on the same pixels and masks, and dials.find_spots' function on
the same files; the ratio is printed, and how many of the strong spots are found by both. With --no-cell the shots are
also indexed without a known cell, and the cells' medians printed. Seconds are CPU seconds of one process after all
imports, medians of several repetitions, so that other work on the machine does little to them; it does something where
it fills the caches, so compare ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from exafel import _kernels
from exafel.config.stills import StillsConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.frames import open_frames
from exafel.io.reflections import ReflectionTable
from exafel.stills.accuracy import lattice_errors
from exafel.stills.bravais import lattice_symbol
from exafel.stills.indexing import index_shot
from exafel.stills.pixels import kernel_pixels
from exafel.stills.reader import Shot, ShotReader
from exafel.stills.shot import ShotResult, process_shot
from exafel.stills.spotfinding import find_spots
from exafel.stills.strong_pixels import strong_pixels_of_shot

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(__file__).with_name("stills_dials.py")
CASES = {  # example configuration: images, number of the one for spot finding
    "cspad_thermolysin": ("cspad_thermolysin", 0),
    "thaumatin_pilatus": ("thaumatin_grid", 2),
    "lysozyme_stills": ("lysozyme_stills/lysozyme_stills.h5", 0),
}
PEER_CPU_S = {"cspad_thermolysin": 7.2, "thaumatin_pilatus": 8.0, "lysozyme_stills": 1.47}
"""CPU seconds an image of dials.stills_process 3.12.1 on these images, measured on a machine like the project's."""


def median_cpu_s(work: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a piece of work."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def threshold(shot: Shot, config: StillsConfig) -> None:
    """Find the strong pixels of a shot, and no more."""
    frames = [kernel_pixels(frame) for frame in shot.frames]
    strong_pixels_of_shot(frames, shot.masks, shot.detector, shot.beam, config.spotfinding)


def peer(shot: Shot, config: StillsConfig, repeats: int) -> dict[str, Any] | None:
    """Return DIALS' CPU seconds on the same pixels: of the threshold, and of everything to the table of spots.

    The spots' panels and positions come with them.
    """
    python = shutil.which("dxtbx.python")
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shot.npz"
        panels = {f"frame{n}": frame for n, frame in enumerate(shot.frames)}
        panels |= {f"mask{n}": mask for n, mask in enumerate(shot.masks)}
        np.savez(path, **panels)
        request = {"pixels": str(path), "image": str(shot.image.path), "index": shot.image.index or 0,
                   "repeats": repeats, "config": config.spotfinding.model_dump()}  # fmt: skip
        done = subprocess.run([python, PEER], input=json.dumps(request), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def in_common(ours: ReflectionTable, theirs: list[list[float]]) -> str:
    """Say how many spots of each list have one of the other within a pixel on the same panel."""
    lists = [np.column_stack([ours["panel"], ours["xyzobs.px.value"][:, :2]]), np.array(theirs).reshape(-1, 3)]
    far = [items * [1e5, 1.0, 1.0] for items in lists]
    shares = [int((cKDTree(other).query(own)[0] < 1.0).sum()) for own, other in (far, far[::-1])]
    return f"{shares[0]} of our {len(far[0])} and {shares[1]} of DIALS' {len(far[1])} strong spots in common"


def algorithms(shot: Shot, config: StillsConfig, repeats: int) -> str:
    """Return the rates of the other algorithms, from the pixels to the spots, Mpx/s."""
    rates = []
    for name in ("dispersion_extended", "radial"):
        settings = config.spotfinding.model_copy(update={"algorithm": name})
        find_spots(shot.frames, shot.masks, shot.detector, shot.beam, settings)  # makes what shots share
        seconds = median_cpu_s(
            lambda settings=settings: find_spots(shot.frames, shot.masks, shot.detector, shot.beam, settings), repeats
        )
        rates.append(f"{name} {shot.detector.n_pixels / 1e6 / seconds:.1f}")
    return ", ".join(rates)


def spot_finding(shot: Shot, config: StillsConfig, repeats: int) -> None:
    """Print the rates of spot finding on one shot."""
    pixels = shot.detector.n_pixels / 1e6
    found = find_spots(shot.frames, shot.masks, shot.detector, shot.beam, config.spotfinding)
    ours = {
        "threshold": median_cpu_s(lambda: threshold(shot, config), repeats),
        "spots": median_cpu_s(
            lambda: find_spots(shot.frames, shot.masks, shot.detector, shot.beam, config.spotfinding), repeats
        ),
    }
    theirs = peer(shot, config, repeats)
    for part, seconds in ours.items():
        ratio = (
            ""
            if theirs is None
            else f"   DIALS {pixels / theirs[part]:6.1f} Mpx/s, ratio {theirs[part] / seconds:5.1f}"
        )
        print(f"  {part:10} {pixels / seconds:7.1f} Mpx/s{ratio}")
    if theirs is not None:
        print(f"  {in_common(found, theirs['found'])}")
    print(f"  spots by other algorithms, Mpx/s: {algorithms(shot, config, repeats)}")


def accuracy(results: list[ShotResult], truth: Path) -> str:
    """Compare the lattices of the simulated shots with what they were made from."""
    pairs = []
    for result, shot in zip(results, json.loads(truth.read_text())["images"], strict=True):
        basis = (np.array(shot["U"]) @ orthogonalization(shot["cell"])).T
        crystals = [lattice.experiment.crystal for lattice in result.lattices]
        pairs += [(crystal, Crystal(basis, crystal.space_group_hall)) for crystal in crystals if crystal is not None]
    errors = lattice_errors(pairs)
    a, _, c = errors.cell_rms_angstrom
    angles = errors.misorientation_deg
    return (
        f"{len(errors)} of {len(results)} lattices: misorientation median {np.median(angles):.4f}, max "
        f"{angles.max():.4f} deg; cell rms a {a:.4f}, c {c:.4f} A"
    )


def without_cell(reader: ShotReader, config: StillsConfig, n_shots: int) -> str:
    """Index without a known cell; say how many hits do, as which lattices, with which cell, and in what time."""
    free = config.indexing.model_copy(update={"unit_cell": None, "space_group": None})
    crystals, n_hits, seconds = [], 0, []
    for number in range(n_shots):
        shot = reader.read(number)
        spots = find_spots(shot.frames, shot.masks, shot.detector, shot.beam, config.spotfinding)
        if len(spots) < config.spotfinding.min_spots:
            continue
        n_hits += 1
        start = time.process_time()
        crystals += [lattice.crystal for lattice in index_shot(spots, shot.detector, shot.beam, free)[:1]]
        seconds.append(time.process_time() - start)
    symbols = Counter(lattice_symbol(crystal.space_group) for crystal in crystals)
    ((best, _),) = symbols.most_common(1)
    cell = np.median([item.cell for item in crystals if lattice_symbol(item.space_group) == best], axis=0)
    return (
        f"{len(crystals)} of {n_hits} hits indexed, lattices {dict(symbols)}, median cell of {best} "
        f"{np.round(cell, 2).tolist()}, {statistics.median(seconds):.2f} CPU-s a hit"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Speed of the stills step.")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-cell", action="store_true", help="index without a known cell too")
    options = parser.parse_args()
    print(f"instruction set {_kernels.isa()}; CPU seconds of one core; read: pixels and masks from the file")
    for name, (images, number) in CASES.items():
        config = load_workflow_config(ROOT / "workflows" / "config" / "examples" / f"{name}.yaml").stills
        reader = ShotReader(open_frames([options.data / images]), config.geometry)
        print(f"{name}: {len(reader)} images, {reader.read(number).detector.n_pixels / 1e6:.1f} Mpx")
        spot_finding(reader.read(number), config, options.repeats)
        results = [process_shot(reader, shot, config) for shot in range(len(reader))]
        phases = {phase: 0.0 for result in results for phase in result.cpu_s}
        for phase in phases:
            phases[phase] = statistics.mean(result.cpu_s.get(phase, 0.0) for result in results)
        total = sum(phases.values())
        parts = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in phases.items())
        print(f"  {total:.3f} CPU-s an image ({parts}); peer {PEER_CPU_S[name]}, ratio {PEER_CPU_S[name] / total:.0f}")
        truth = options.data / Path(images).parent / "truth.json"
        if truth.is_file():
            print(f"  {accuracy(results, truth)}")
        if options.no_cell:
            print(f"  without the cell: {without_cell(reader, config, len(reader))}")


if __name__ == "__main__":
    main()
