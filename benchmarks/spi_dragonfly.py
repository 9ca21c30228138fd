"""Dragonfly and this program on the same Poisson shots, one after the other: orientation errors and CPU seconds.

    python benchmarks/spi_dragonfly.py --shots 3iyf_poisson_3000.h5 --bin VENV/bin --out FOLDER [--frames 2000]

VENV has `dragonfly-spi` 0.1.0 (GPL-3; it is run as a program, nothing of it is imported here). On Debian:

    apt-get install libgsl-dev libhdf5-dev libopenmpi-dev
    python3 -m venv VENV && VENV/bin/pip install 'setuptools>=77,<81' wheel cython numpy scipy h5py mpi4py
    VENV/bin/pip install --no-build-isolation --no-deps dragonfly-spi==0.1.0

Both have one core. Dragonfly has 3,240 rotations (num_div 4), 40 iterations, its automatic beta, no symmetry.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
from spi_settings import SETTINGS

from exafel.config.spi import SpiReconstructConfig
from exafel.io.spi_file import SpiShots
from exafel.spi.alignment import orientation_errors
from exafel.spi.rotations import conjugate, point_group

ITERATIONS = 40
RADIUS = 43  # voxels from the centre to the last pixel; the volume is 89 voxels wide

CONFIG = """[emc]
in_photons_file = photons.h5
in_detector_file = detector.h5
num_div = 4
output_folder = data/
log_file = EMC.log
need_scaling = 0
beta_schedule = {schedule}
"""
ROTATIONS = "import numpy, dragonfly; numpy.save('rotations.npy', dragonfly.Quaternion(4).quats)"
OURS = """
import sys, json
from pathlib import Path
from exafel.config.spi import SpiReconstructConfig
from exafel.parallel.launch import launch
from exafel.steps import spi_reconstruct
settings, shots, out = sys.argv[1:]
config = SpiReconstructConfig.model_validate(json.loads(settings))
print(launch(spi_reconstruct.run, spi_reconstruct.request(config, [Path(shots)], Path(out))).model_dump_json())
"""


def write_inputs(shots: SpiShots, frames: int, folder: Path, schedule: str) -> None:
    """Write frames and detector as Dragonfly reads them: lit pixels only, and voxels for scattering vectors."""
    s = shots.geometry.s.reshape(3, -1)
    photons = shots.read(np.arange(frames)).astype(np.int32)
    with h5py.File(folder / "photons.h5", "w") as stream:
        stream["num_pix"] = np.array([photons.shape[1]], dtype=np.int32)
        parts = {
            "place_ones": [np.flatnonzero(frame == 1) for frame in photons],
            "place_multi": [np.flatnonzero(frame > 1) for frame in photons],
            "count_multi": [frame[frame > 1] for frame in photons],
        }
        for name, rows in parts.items():
            data = stream.create_dataset(name, (frames,), dtype=h5py.vlen_dtype(np.int32))
            for number, row in enumerate(rows):
                data[number] = row.astype(np.int32)
    voxel = RADIUS / np.linalg.norm(s, axis=0).max()
    length = np.abs(s[2]).max()
    ewald = np.linalg.norm(s[:, np.argmax(np.abs(s[2]))]) ** 2 / (2 * length)  # |s|² = 2 |s_z| / λ on the sphere
    with h5py.File(folder / "detector.h5", "w") as stream:
        for name, values in zip(("qx", "qy", "qz"), s * voxel, strict=True):
            stream[name] = values
        stream["corr"] = np.ones(s.shape[1])
        stream["mask"] = np.where(shots.geometry.good.ravel(), 0, 1).astype(np.uint8)
        stream["ewald_rad"] = float(ewald * voxel)
        stream["detd"] = float(ewald * voxel)
    (folder / "config.ini").write_text(CONFIG.format(schedule=schedule))
    (folder / "data").mkdir(exist_ok=True)


def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Run a command; return its wall and CPU seconds, and what it printed."""
    one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=one)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / f"{Path(command[0]).name}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def summary(name: str, found: np.ndarray, true: np.ndarray, wall: float, cpu: float) -> None:
    """Print errors modulo D8, global frame and half-turn about the beam."""
    errors = min((orientation_errors(q, true, point_group("D8"))[0] for q in (found, conjugate(found))), key=np.median)
    shares = ", ".join(f"{(errors < limit).mean():.1%} within {limit}°" for limit in (5, 10))
    median, mean = np.median(errors), errors.mean()
    print(f"{name}: median {median:.2f}°, mean {mean:.2f}°, {shares}; {wall:.0f} s, {cpu:.0f} CPU-s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shots", type=Path, required=True, help="Poisson shots of 3IYF with true orientations")
    parser.add_argument("--bin", type=Path, required=True, help="bin folder of an environment with dragonfly-spi")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--schedule", default="1.5 3", help="Dragonfly's beta: factor, and iterations between")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = options.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shots = SpiShots([options.shots])
    true = shots.truth("orientations")
    assert true is not None
    true = true[: options.frames]
    first = folder / "shots.h5"
    with h5py.File(options.shots) as source, h5py.File(first, "w") as stream:
        for name in ("intensities", "pixel_position_reciprocal", "pixel_index_map", "orientations"):
            if name in source:
                whole = name.startswith("pixel")
                stream[name] = source[name][()] if whole else source[name][: options.frames]

    settings = SpiReconstructConfig.model_validate({**SETTINGS["3"], "seed": options.seed}).model_dump(mode="json")
    command = [sys.executable, "-c", OURS, json.dumps(settings), str(first), str(folder / "ours")]
    wall, cpu, _ = timed(command, folder)
    table = np.genfromtxt(
        folder / "ours" / "images.csv", delimiter=",", names=True, usecols=("shot", "qw", "qx", "qy", "qz")
    )
    ours = np.stack([table[name] for name in ("qw", "qx", "qy", "qz")], axis=1)
    summary("exafel", ours, true[table["shot"].astype(int)], wall, cpu)

    write_inputs(shots, options.frames, folder, options.schedule)
    timed([str(options.bin.absolute() / "python"), "-c", ROTATIONS], folder)
    wall, cpu, _ = timed([str(options.bin.absolute() / "dragonfly.emc"), "-t", "1", str(options.iterations)], folder)
    rotations = np.load(folder / "rotations.npy")[:, :4]
    last = sorted((folder / "data").glob("output_*.h5"))[-1]
    with h5py.File(last) as stream:
        best = stream["orientations"][()]
    summary(f"dragonfly, {options.iterations} iterations", rotations[best], true, wall, cpu)


if __name__ == "__main__":
    main()
