"""Check the GPU back-end of single-particle imaging against the processor's, and time both in one run.

    python benchmarks/spi_gpu.py

Needs CuPy. Where FINUFFT and cuFINUFFT are installed they are used; without them, the transforms written in array code.
The last lines compare FFTs: the real, single-precision path of phasing against CuPy's plain complex one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from exafel.spi.backend import Backend, cpu_backend, gpu_backend
from exafel.spi.gridding import GriddingTransforms
from exafel.spi.rotations import random_quaternions
from spi import CASES, Problem, generations, kernels


def difference(work: Callable[[Backend], np.ndarray], pair: tuple[Backend, Backend]) -> float:
    """Largest difference of a result on both, relative to its largest value."""
    expected, found = (backend.host(work(backend)) for backend in pair)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def check(pair: tuple[Backend, Backend]) -> bool:
    """Compare slices, normal equations and phasing; print what differs."""
    small = {backend.name: Problem(60, 32, 27, backend) for backend in pair}
    q = random_quaternions(60, np.random.default_rng(7))

    def views(backend: Backend) -> np.ndarray:
        from exafel.spi.slicing import slices

        problem = small[backend.name]
        return slices([problem.model], q, problem.cube, problem.pixels, backend)[0]

    def phased(backend: Backend) -> np.ndarray:
        return small[backend.name].phaser(5).run(None, None, np.random.default_rng(0)).density

    results = {
        "slices": (difference(views, pair), 1e-3),
        "kernel": (difference(lambda b: small[b.name].sums().kernel, pair), 1e-3),
        "solution": (difference(lambda b: small[b.name].sums().solve(1e-2, None, 10, 0.0).a, pair), 5e-3),
        "phasing, 5 iterations": (difference(phased, pair), 1e-3),
    }
    for name, (value, limit) in results.items():
        print(f"{name}: largest relative difference {value:.1e} (limit {limit:.0e})")
    return all(value <= limit for value, limit in results.values())


def fft_paths(gpu: Backend, m: int = 81, repeats: int = 200) -> None:
    """Time a phasing iteration as it is here, and with complex FFTs in numpy's way."""
    xp = gpu.xp
    phaser = Problem(1, 32, m, gpu).phaser(repeats)
    rho = xp.random.random((m, m, m)).astype(xp.complex64)
    amplitudes, inside = xp.abs(xp.fft.fftn(rho)), xp.ones((m, m, m), dtype=bool)

    def plain() -> None:
        nonlocal rho
        for _ in range(repeats):
            F = xp.fft.fftn(rho)
            g = xp.fft.ifftn(amplitudes * xp.exp(1j * xp.angle(F)))
            rho = xp.where(inside & (g.real > 0), g, rho - 0.9 * g)

    times = []
    for work in (plain, lambda: phaser.run(None, None, np.random.default_rng(0))):
        work()
        xp.cuda.Device().synchronize()
        start = time.perf_counter()
        work()
        xp.cuda.Device().synchronize()
        times.append((time.perf_counter() - start) / repeats)
    plain_ms, here_ms = (1e3 * t for t in times)
    print(f"phasing {m}^3: plain complex {plain_ms:.3f} ms, here {here_ms:.3f} ms, {plain_ms / here_ms:.2f} x")


def main() -> int:
    if find_spec("cupy") is None:
        print("no CuPy here: nothing to check")
        return 0
    cpu = cpu_backend(4)
    if find_spec("finufft") is None:
        cpu = replace(cpu, nufft=GriddingTransforms(np, np.fft))
    pair = cpu, gpu_backend()
    print(f"transforms on the GPU: {type(pair[1].nufft).__name__}")
    good = check(pair)
    kernels(pair[1])
    fft_paths(pair[1])
    generations(pair[1], list(CASES))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
