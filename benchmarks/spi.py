"""Speed of the kernels of single-particle imaging, each beside what the library or the processor gives, in one run.

    python benchmarks/spi.py [--backend gpu] [--quick]

Seconds are CPU seconds on a processor (neighbours do not count) and wall seconds on a GPU; medians of several runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from exafel.spi.backend import Backend, backend_of
from exafel.spi.grids import Cube, Pixels
from exafel.spi.matching import Scorer, match
from exafel.spi.merging import NormalEquations, NormalSums, Units, add_images
from exafel.spi.phasing import Amplitudes, Pass, Phaser, PhasingOptions, autocorrelation
from exafel.spi.refinement import refine
from exafel.spi.rotations import from_vectors, multiply, random_quaternions
from exafel.spi.slicing import batches, slices

PHASING = 1300  # iterations of a generation in the reference's model
CASES = {  # images, pixels along a side, references, m; core-seconds of the reference's model
    "low resolution": (2000, 32, 3000, 45, 2.0),
    "middle": (2000, 64, 10000, 81, 18.0),
    "quickstart": (2000, 128, 10000, 81, 42.0),
}
COARSE_TO_FINE = (2000, 64, 81, 8.0)
"""The quickstart once orientations are known to a tenth of a degree: binned images, no global references."""


def seconds(work: Callable[[], object], backend: Backend, repeats: int = 3) -> float:
    """Median time of some work after one run to warm up."""
    clock = time.process_time if backend.name == "cpu" else time.perf_counter
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        if backend.name == "gpu":
            backend.xp.cuda.Device().synchronize()
        times.append(clock() - start)
    return statistics.median(times)


def detector(side: int) -> Pixels:
    """Pixels in a disc, to 8 angstrom at the edge for any number of them."""
    line = np.linspace(-1, 1, side) / 8.0
    x, y = (a.ravel() for a in np.meshgrid(line, line))
    s = np.stack([x, y, -1.35 * (x * x + y * y)])
    keep = np.linalg.norm(s, axis=0) <= 1 / 8.0
    return Pixels(s[:, keep], np.flatnonzero(keep))


class Problem:
    """A random model, and images of it."""

    def __init__(self, n: int, side: int, m: int, backend: Backend) -> None:
        self.backend, self.cube, self.pixels = backend, Cube(m, 4.0), detector(side)
        rng = np.random.default_rng(1)
        density = backend.array(rng.random((m, m, m), dtype=np.float32) * self.cube.ball(m))
        self.model = autocorrelation(density, self.cube, backend)
        self.q = random_quaternions(n, rng)
        self.images = backend.array(rng.random((n, len(self.pixels)), dtype=np.float32))
        ones = backend.array(np.ones(len(self.pixels)))
        self.scorer = Scorer("distance", ones, ones, backend)

    def slice(self, n: int) -> None:
        """Make n views, in batches."""
        for rows in batches(n, len(self.pixels)):
            slices([self.model], self.q[: rows.stop - rows.start], self.cube, self.pixels, self.backend)

    def match(self, references: np.ndarray) -> None:
        """Match all images."""
        match([self.images], [[self.model]], references, self.cube, self.pixels, self.scorer)

    def refinement(self) -> Callable[[], object]:
        """Return the refinement of orientations a tenth of a degree off, of images that the model explains."""
        views = [
            slices([self.model], self.q[rows], self.cube, self.pixels, self.backend)[0]
            for rows in batches(len(self.q), len(self.pixels))
        ]
        off = np.random.default_rng(5).normal(scale=np.radians(0.1) / 3**0.5, size=(len(self.q), 3))
        near = multiply(self.q, from_vectors(off))
        images = self.backend.xp.concatenate(views)
        weight = self.backend.array(self.pixels.length**2, dtype=np.float32)  # else the first fringe is all that counts
        scorer = Scorer("distance", weight, self.scorer.ring, self.backend)
        return lambda: refine(images, self.model, near, self.cube, self.pixels, scorer, 3)

    def sums(self) -> NormalEquations:
        """Merge all images."""
        sums, n = NormalSums.empty(self.cube), len(self.q)
        units = Units(float(n * len(self.pixels)), float(n * len(self.pixels)))
        weight = self.backend.xp.ones_like(self.images[:500])
        for first in range(0, n, 500):
            rows = slice(first, first + 500)
            d, q = self.images[rows], self.q[rows]
            add_images(sums, units, d, weight[: len(q)], q, self.cube, self.pixels, self.backend)
        support = self.cube.ball(self.cube.m // 2 * self.cube.voxel_angstrom)
        return NormalEquations.of(sums, units, self.cube, support, self.backend)

    def phaser(self, iterations: int) -> Phaser:
        """Return phasing of some iterations."""
        amplitudes = Amplitudes.of_autocorrelation(self.model, self.cube, self.backend)
        options = PhasingOptions((Pass("raar", iterations),))
        return Phaser(amplitudes, self.cube.ball(self.cube.m), self.cube, options, self.backend)


def kernels(backend: Backend) -> None:
    """Print rates of single kernels."""
    problem = Problem(500, 64, 81, backend)
    points = 500 * len(problem.pixels)
    t = seconds(lambda: problem.slice(500), backend)
    print(f"slices (type 2, m 81)       {points / t / 1e6:8.2f} M points/s")
    t = seconds(problem.sums, backend)
    print(f"merge (type 1 to 162^3)     {points / t / 1e6:8.2f} M points/s, {t:.2f} s a block of 500 images")
    t = seconds(lambda: problem.phaser(20).run(None, None, np.random.default_rng(0)), backend) / 20
    print(f"phasing (raar, 81^3)        {1 / t:8.1f} iterations/s, {1 / t / 21:.1f} x the reference's numpy (21/s)")
    xp = backend.xp
    a, b = (backend.array(np.random.default_rng(2).random((2000, 3000), dtype=np.float32)) for _ in range(2))
    gemm = seconds(lambda: a @ b.T, backend)
    full = Problem(2000, 61, 45, backend)
    views = backend.array(np.random.default_rng(3).random((2000, len(full.pixels)), dtype=np.float32))
    prepared = full.scorer.images(full.images)
    product = seconds(lambda: xp.argmax(prepared @ full.scorer.views(views).T, axis=1), backend)
    rate, peak = 2 * 2000 * 2000 * len(full.pixels) / product, 2 * 2000 * 2000 * 3000 / gemm
    print(f"matching                    {rate / 1e9:8.1f} GFLOP/s, {rate / peak:.0%} of this machine's sgemm")


def merging_seconds(problem: Problem, backend: Backend) -> dict[str, float]:
    """Seconds of the sums over all images, and of the solution."""
    equations = problem.sums()
    return {
        "merge": seconds(problem.sums, backend, 1),
        "cg 20": seconds(lambda: equations.solve(1e-2, None, 20, 0.0), backend, 1),
    }


def generations(backend: Backend, names: list[str]) -> None:
    """Print seconds of a generation by stage, beside the reference's model."""
    for name in names:
        n, side, n_references, m, model = CASES[name]
        problem = Problem(n, side, m, backend)
        references = random_quaternions(n_references, np.random.default_rng(4))
        of = {"slice+match": seconds(lambda p=problem, r=references: p.match(r), backend, 1)}
        of |= merging_seconds(problem, backend)
        phaser = problem.phaser(50)
        of["phase"] = seconds(lambda p=phaser: p.run(None, None, np.random.default_rng(0)), backend, 1) / 50 * PHASING
        total = sum(of.values())
        parts = ", ".join(f"{key} {value:.2f}" for key, value in of.items())
        print(f"{name}: {total:.1f} s ({parts}); model {model:.0f} s, ratio {total / model:.2f}")


def coarse_to_fine(backend: Backend) -> None:
    """Print seconds of a late generation of `spi reconstruct`, which is phased once, at the end."""
    n, side, m, target = COARSE_TO_FINE
    problem = Problem(n, side, m, backend)
    of = {"refine": seconds(problem.refinement(), backend), **merging_seconds(problem, backend)}
    parts = ", ".join(f"{key} {value:.2f}" for key, value in of.items())
    print(f"quickstart, coarse to fine, binned: {sum(of.values()):.1f} s ({parts}); target {target:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="only the smallest generation")
    options = parser.parse_args()
    backend = backend_of(options.backend)
    print(f"back-end {backend.name}, transforms {type(backend.nufft).__name__}")
    kernels(backend)
    generations(backend, ["low resolution"] if options.quick else list(CASES))
    if not options.quick:
        coarse_to_fine(backend)


if __name__ == "__main__":
    main()
