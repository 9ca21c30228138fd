"""Peak memory of a rank of the stills step against the number of shots, on made images.

    python benchmarks/stills_memory.py [--shots 500 5000] [--ranks 1]

The shots are those of a simulation of forty, a quarter of them hits, repeated: what a rank holds must not depend on how
many there are. Each run is a process of its own, whose peak is what the operating system says.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from exafel.config.simulate import SimulateSfxConfig
from exafel.io.nxmx import NXmxSource
from exafel.io.nxmx_writer import NXmxWriter
from exafel.parallel.comm import SerialComm
from exafel.steps import simulate

CONFIG = """
stills:
  indexing: {unit_cell: [41.98, 41.98, 88.92, 90, 90, 90], space_group: P43212}
  integration: {d_min: 2.2}
"""
UNIQUE = 40


def make_images(folder: Path, n_shots: int) -> Path:
    """Write a file of `n_shots` images, those of a short simulation one after the other."""
    config = SimulateSfxConfig(
        n_shots=UNIQUE,
        no_hit_fraction=0.75,
        detector={"panel_size_px": (384, 384), "pixel_size_mm": 0.2},
        crystal={"mosaic_blocks": 4},
    )
    simulate.run(simulate.request(config, folder / "simulated"), SerialComm())
    source = NXmxSource(folder / "simulated" / "rank-00000.h5")
    path = folder / f"shots_{n_shots}.h5"
    shots = [(source.frame(number), source.beam(number)) for number in range(UNIQUE)]
    with NXmxWriter(path, source.detector(0), n_shots, "bitshuffle-lz4", name="repeated") as writer:
        for number in range(n_shots):
            writer.append(*shots[number % UNIQUE])
    return path


def main() -> None:
    """Print a line a number of shots."""
    parser = argparse.ArgumentParser(description="Peak memory of the stills step.")
    parser.add_argument("--shots", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    for n_shots in options.shots:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "config.yaml").write_text(CONFIG)
            images = make_images(folder, n_shots)
            command = [sys.executable, __file__, "run", str(images), str(folder / "out"), str(folder / "config.yaml")]
            start = time.perf_counter()
            done = subprocess.run([*command, str(options.ranks)], capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{n_shots} shots, {options.ranks} ranks: {answer['n_integrated']} integrated, peak of a rank "
                f"{answer['peak_mb']:.0f} MB, {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def run(images: str, out: str, config: str, ranks: str) -> None:
    """Process the images and print the summary with the peak of this process and of the other ranks."""
    from exafel.config.workflow import load_workflow_config
    from exafel.parallel.launch import launch
    from exafel.steps import stills

    request = stills.request(load_workflow_config(Path(config)).stills, [Path(images)], Path(out))
    summary = launch(stills.run, request, ranks=int(ranks))
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"n_integrated": summary.n_integrated, "peak_mb": max(peaks)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(*sys.argv[2:])
    else:
        main()
