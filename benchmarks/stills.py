"""Speed of the stills step on real images: megapixels a second of spot finding, CPU seconds an image by phase.

    python benchmarks/stills.py [--data ../shared/data] [--repeats 5]

Where DIALS is installed, its dispersion threshold runs on the same pixels and masks, and dials.find_spots' function on
the same files, and the ratio is printed. Seconds are CPU seconds of one process after all imports, medians of several
repetitions, so that other work on the machine does little to them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exafel import _kernels
from exafel.config.stills import StillsConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.frames import open_frames
from exafel.stills.pixels import kernel_pixels
from exafel.stills.reader import Shot, ShotReader
from exafel.stills.shot import process_shot
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


def peer(shot: Shot, config: StillsConfig, repeats: int) -> dict[str, float] | None:
    """Return DIALS' CPU seconds on the same pixels: of the threshold, and of everything to the table of spots."""
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
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def spot_finding(shot: Shot, config: StillsConfig, repeats: int) -> None:
    """Print the rates of spot finding on one shot."""
    pixels = shot.detector.n_pixels / 1e6
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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Speed of the stills step.")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"instruction set {_kernels.isa()}; CPU seconds of one core; read: pixels and masks from the file")
    for name, (images, number) in CASES.items():
        config = load_workflow_config(ROOT / "workflows" / "config" / "examples" / f"{name}.yaml").stills
        reader = ShotReader(open_frames([options.data / images]), config.geometry)
        print(f"{name}: {len(reader)} images, {reader.read(number).detector.n_pixels / 1e6:.1f} Mpx")
        spot_finding(reader.read(number), config, options.repeats)
        results = [process_shot(reader, shot, config) for shot in range(min(len(reader), 12))]
        phases = {phase: 0.0 for result in results for phase in result.cpu_s}
        for phase in phases:
            phases[phase] = statistics.mean(result.cpu_s.get(phase, 0.0) for result in results)
        total = sum(phases.values())
        parts = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in phases.items())
        print(f"  {total:.3f} CPU-s an image ({parts}); peer {PEER_CPU_S[name]}, ratio {PEER_CPU_S[name] / total:.0f}")


if __name__ == "__main__":
    main()
