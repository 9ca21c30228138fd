"""Strong scaling of the generations of single-particle imaging, by MPI ranks and by Parsl tasks, on one problem.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/spi_scaling.py --structure 3iyf.pdb.xz --out FOLDER

Each back-end reconstructs the same simulated shots on 1, 2 and 4 processes of one thread. Seconds are of a generation,
medians of runs; those of reading and of starting workers are not in them. On fewer cores than processes the wall time
cannot fall any further. Then a model, from what one process measured: seconds = N a / ranks + b, a for what is done to
images (scores, and merge's transforms) and b for what is not (views, solutions), and the all-reduce by
Rabenseifner's algorithm, 2 (p - 1) / p of its bytes over the network and 2 log2(p) latencies (Thakur, Rabenseifner &
Gropp 2005, Int. J. High Perform. Comput. Appl. 19, 49).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from spi_settings import DETECTOR

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.config.spi import SpiReconstructConfig
from exafel.io.mrc import read_mrc
from exafel.parallel.launch import launch
from exafel.steps import simulate_spi, spi_reconstruct
from exafel.steps.base import StepRequest

PROCESSES = (1, 2, 4)
NETWORK = 25e9, 2e-6  # bytes a second and seconds: one Slingshot port
BLOCK = 250
CONFIG = SpiReconstructConfig.model_validate(
    {
        "diameter_angstrom": 214.0,
        "d_min_angstrom": 12.0,
        "halves": False,
        "block_images": BLOCK,
        "max_generations": 4,
        "marching": {"d_start_angstrom": 12.0, "first_generations": 4},
        "matching": {"references": 3000, "soft": 1, "refine_from": 10, "local_from": 10},
        "merging": {"regularisation": [0.01]},
        "phasing": {"iterations": 20, "starts": 1},
    }
)
Run = Callable[[StepRequest, int], spi_reconstruct.Summary]


def by_ranks(request: StepRequest, n: int) -> spi_reconstruct.Summary:
    """Reconstruct by MPI ranks."""
    return launch(spi_reconstruct.run, request, ranks=n)


def by_tasks(request: StepRequest, n: int) -> spi_reconstruct.Summary:
    """Reconstruct by Parsl tasks in workers."""
    config = request.out.with_suffix(".json")
    config.write_text(json.dumps({"spi_reconstruct": request.config.model_dump(mode="json")}))
    program = Path(__file__).parents[1] / "workflows" / "parsl" / "spi.py"
    command = [sys.executable, str(program), "--config", str(config), "--out", str(request.out), "--workers", str(n)]
    command += [part for path in request.inputs["images"] for part in ("--images", str(path))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return spi_reconstruct.Summary.model_validate_json(done.stdout.strip().splitlines()[-1])


def simulated(structure: Path, n: int, out: Path) -> Path:
    """Simulate noise-free shots."""
    settings = {"structures": [str(structure)], "n_shots": n, "detector": DETECTOR, "noise": {"poisson": False}}
    launch(simulate_spi.run, simulate_spi.request(SimulateSpiConfig.model_validate(settings), out))
    return out


def generation_seconds(summary: spi_reconstruct.Summary) -> dict[str, float]:
    """Median seconds of a generation by stage, without the first, which starts workers and plans transforms."""
    stages = [item.seconds for item in summary.generations[1:]]
    return {name: statistics.median(item[name] for item in stages) for name in stages[0]}


def model(seconds: dict[int, float], n_images: int, moved: int, ranks: int) -> tuple[float, float]:
    """Seconds of a generation on so many ranks, and those of the all-reduce in them.

    Parameters
    ----------
    seconds
        Of a generation on one process, by number of images: all of them and half of them.
    """
    small, large = min(seconds), max(seconds)
    a = (seconds[large] - seconds[small]) / (large - small)
    b = seconds[large] - a * large
    bandwidth, latency = NETWORK
    reduced = 0.0 if ranks == 1 else 2 * (ranks - 1) / ranks * moved / bandwidth + 2 * np.log2(ranks) * latency
    return n_images * a / ranks + b + reduced, reduced


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--structure", type=Path, required=True, help="coordinates of the particle, e.g. 3iyf.pdb.xz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")):
        raise SystemExit("set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1: a process is to have one thread")
    shots = simulated(options.structure, options.shots, options.out / "shots")
    maps: list[np.ndarray] = []
    total: dict[tuple[str, int], float] = {}
    backends: dict[str, Run] = {"ranks": by_ranks, "tasks": by_tasks}
    moved = 0
    for n in PROCESSES:
        for name, run in backends.items():
            stages = []
            for repeat in range(options.repeats):
                out = options.out / f"{name}{n}-{repeat}"
                summary = run(spi_reconstruct.request(CONFIG, [shots], out), n)
                stages.append(generation_seconds(summary))
                maps.append(read_mrc(out / "class0_density.mrc")[0])
                moved = summary.allreduce_bytes_a_model
            median = {key: statistics.median(item[key] for item in stages) for key in stages[0]}
            total[name, n] = sum(median.values())
            parts = ", ".join(f"{key} {value:.2f}" for key, value in median.items())
            speedup = total[name, 1] / total[name, n]
            print(f"{name} {n}: {total[name, n]:6.2f} s a generation ({parts}), {speedup:.2f} x one", flush=True)
    different = max(float(np.abs(item - maps[0]).max()) for item in maps)
    ratios = ", ".join(f"{n}: {total['tasks', n] / total['ranks', n]:.2f}" for n in PROCESSES)
    print(f"largest difference of any two maps {different:.1e}; tasks / ranks {ratios}; {os.cpu_count()} cores")
    fewer = simulated(options.structure, options.shots // 2, options.out / "half" / "shots")
    summary = by_ranks(spi_reconstruct.request(CONFIG, [fewer], options.out / "half" / "map"), 1)
    small = sum(generation_seconds(summary).values())
    seconds = {options.shots: total["ranks", 1], options.shots // 2: small}
    for images in (options.shots, 1_024_000):
        print(f"model, {images} images, {moved / 1e6:.1f} MB all-reduced over {NETWORK[0] / 1e9:.0f} GB/s:")
        one = model(seconds, images, moved, 1)[0]
        for ranks in (1, 2, 4, 16, 64, 256, 1024, 4096):
            if ranks * BLOCK <= images:
                time, reduced = model(seconds, images, moved, ranks)
                print(f"  {ranks:5} ranks {time:10.3f} s, {one / time:7.1f} x, all-reduce {reduced * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
