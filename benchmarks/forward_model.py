"""Speed of the forward model: evaluations a second on a core, with and without derivatives, on threads and on a GPU.

The unit is that of nanoBragg's and diffBragg's speeds: one (pixel, subpixel, channel, mosaic block). *Nominal* counts
all of them, as a program must that visits each; *computed* counts the Gaussians that were evaluated, the others being
known to lie below the cut. The peers' figures were recorded on a machine of this kind (nanoBragg 2022.9, diffBragg
2023.8, Debian).

Run with ``python benchmarks/forward_model.py [--gpu] [--large]``. CPU seconds are the least of a few runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from exafel import _kernels
from exafel.bragg.bases import crystal_bases, mosaic_axes
from exafel.bragg.detectors import grid_detector
from exafel.bragg.forward import bragg_gradients, structure_factor_coefficients
from exafel.bragg.scene import CrystalModel, SceneArrays, SceneOptions, scene_arrays
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.simulate import SimulateSfxConfig
from exafel.io.crystal import orthogonalization
from exafel.io.geometry import EV_ANGSTROM, Beam, Detector, Panel, Spectrum

CELL = (79.1, 79.1, 38.4, 90.0, 90.0, 90.0)
N_CELLS = (30.0, 30.0, 30.0)
REPEATS = 5
NANOBRAGG_M = (14, 30)
DIFFBRAGG_M = (2.1, 3.5)


@dataclass(frozen=True)
class Case:
    """A size: detector, channels, blocks, and resolution of the structure factors."""

    name: str
    detector: Detector
    n_channels: int
    n_blocks: int

    @property
    def nominal(self) -> int:
        return self.detector.n_pixels * self.n_channels * self.n_blocks

    def scene(self, fluence: float = 1e24) -> SceneArrays:
        rng = np.random.default_rng(1)
        energies = 9500 + np.arange(self.n_channels) - self.n_channels / 2
        weights = rng.exponential(1.0, self.n_channels)
        beam = Beam(EV_ANGSTROM / 9500, spectrum=Spectrum(EV_ANGSTROM / energies, weights))
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        blocks, jacobian = crystal_bases(
            turn * np.linalg.det(turn), CELL, mosaic_axes(self.n_blocks), spread_rad=(5e-4,) * 3
        )
        reach = np.array([52, 52, 25])
        table = StructureFactorTable(rng.exponential(1e4, 2 * reach + 1), -reach)
        crystal = CrystalModel(blocks, N_CELLS, jacobian=jacobian)
        return scene_arrays(self.detector, beam, crystal, table, fluence, SceneOptions(cut=15.0))


def flat(n: int, pixel_mm: float, distance_mm: float) -> Detector:
    config = SimulateSfxConfig.model_validate(
        {"detector": {"panel_size_px": (n, n), "pixel_size_mm": pixel_mm, "distance_mm": distance_mm}}
    )
    assert config.detector.type == "grid"
    return grid_detector(config.detector, config.readout)


def jungfrau_like() -> Detector:
    """256 panels of 254 x 254, 16.5 Mpx: the size of the images of ExaFEL's campaigns."""
    pixel, step = 0.075, 256 * 0.075
    panels = [
        Panel(f"p{16 * row + column}", [(column - 8) * step, (8 - row) * step, -120.0], [1, 0, 0], [0, -1, 0],
              (pixel, pixel), (254, 254))
        for row in range(16)
        for column in range(16)
    ]  # fmt: skip
    return Detector(tuple(panels))


def best(work: Callable[[], int], clock: Callable[[], float] = time.process_time) -> tuple[float, int]:
    """Least seconds of a few runs, and what the work returned."""
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        result = work()
        seconds.append(clock() - start)
    return min(seconds), result


def strong_windows(image: np.ndarray, count: int = 77, half: int = 7) -> np.ndarray:
    """Pixels of windows about the brightest spots of a square image, as stage 1 cuts them, shape (n, 3)."""
    n = image.shape[0]
    free = np.ones(image.shape, dtype=bool)
    windows = []
    for place in np.argsort(image.ravel())[::-1]:
        slow, fast = divmod(int(place), n)
        if min(slow, fast) < half or max(slow, fast) >= n - half or not free[slow, fast]:
            continue
        free[max(slow - 12, 0) : slow + 13, max(fast - 12, 0) : fast + 13] = False
        grid = np.mgrid[slow - half : slow + half + 1, fast - half : fast + half + 1].reshape(2, -1)
        windows.append(np.stack([np.zeros(grid.shape[1], int), grid[1], grid[0]], axis=1))
        if len(windows) == count:
            break
    return np.concatenate(windows).astype(np.int32)


def row(name: str, seconds: float, nominal: float, computed: float, peer: tuple[float, float] | None) -> None:
    rate = nominal / seconds / 1e6
    ratio = "" if peer is None else f"{rate / peer[1]:6.0f}-{rate / peer[0]:.0f} x"
    print(f"{name:52}{1e3 * seconds:10.2f}{rate:12.0f}{computed / seconds / 1e6:12.1f}  {ratio}")


def whole_images(cases: list[Case]) -> None:
    for case in cases:
        scene = case.scene()
        image = np.zeros(case.detector.n_pixels)
        for every, single in ((True, False), (True, True), (False, False), (False, True)):
            seconds, terms = best(lambda s=scene, i=image, e=every, p=single: s.host.add_photons(i, e, p, 1))
            name = f"{case.name}, {'every pixel' if every else 'windows'}, {'single' if single else 'double'}"
            row(name, seconds, case.nominal, terms, NANOBRAGG_M)


def windows_with_gradients(case: Case) -> None:
    scene = case.scene()
    image = np.zeros(case.detector.n_pixels)
    scene.host.add_photons(image, False, False, 1)
    pixels = strong_windows(image.reshape(case.detector[0].shape))
    nominal = len(pixels) * case.n_channels * case.n_blocks
    for single in (False, True):
        precision = "single" if single else "double"
        seconds, terms = best(lambda p=single: bragg_gradients(scene, pixels, single=p).n_terms)
        row(f"{case.name}, 77 windows, all 18 gradients, {precision}", seconds, nominal, terms, DIFFBRAGG_M)
        seconds, _ = best(lambda p=single: structure_factor_coefficients(scene, pixels, single=p).nnz)
        row(f"{case.name}, 77 windows, F coefficients, {precision}", seconds, nominal, terms, None)


def threads(case: Case) -> None:
    scene = case.scene()
    images = np.zeros((2, case.detector.n_pixels))
    times = [
        best(lambda n=n: scene.host.add_photons(images[n - 1], True, False, n), time.perf_counter)[0] for n in (1, 2)
    ]
    same = np.array_equal(images[0], images[1])
    print(f"two threads: {times[0] / times[1]:.2f} times one's speed (wall), the same pixels: {same}")


def ceiling() -> None:
    """The inner sums alone: all channels of a pixel on a maximum, so that finding terms costs nothing."""
    case = Case("ceiling", flat(8, 1e-4, 1000.0), 400, 1)
    small = (orthogonalization(CELL).T * 1e-4)[None]  # a cell so small that h is nearly zero in all channels
    scene = replace(
        case.scene(), blocks=small, mean_block=small[0], block_slack=np.full(3, 1e-12),
        jacobian=np.zeros((1, 3, 3, 12)), _host=[],
    )  # fmt: skip
    pixels = np.array([(0, fast, slow) for slow in range(8) for fast in range(8)] * 64, dtype=np.int32)
    terms = len(pixels) * case.n_channels
    for single in (False, True):
        plain, _ = best(lambda p=single: structure_factor_coefficients(scene, pixels, single=p).nnz)
        gradients, computed = best(lambda p=single: bragg_gradients(scene, pixels, single=p).n_terms)
        assert computed == terms
        print(
            f"inner sums alone, {'single' if single else 'double'}: {terms / plain / 1e6:.0f} M/s, with all gradients "
            f"{terms / gradients / 1e6:.0f} M/s"
        )


def gpu_seconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median seconds of a piece of work on the GPU."""
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(repeats):
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end))
    return float(np.median(times)) / 1e3


def gpu(cases: list[Case]) -> None:
    """Images and gradients on the GPU, against the host's in the same run."""
    import cupy

    from exafel.bragg.gpu import GpuModel

    model = GpuModel()
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    _, total = cupy.cuda.runtime.memGetInfo()
    print(f"GPU: {device}, {total / 2**30:.0f} GiB")
    for case in cases:
        scene = case.scene()
        expected = np.zeros(case.detector.n_pixels)
        scene.host.add_photons(expected, True, False, os.cpu_count() or 1)
        start = time.perf_counter()
        image = model.photons(scene)
        cupy.cuda.Device().synchronize()
        first = time.perf_counter() - start
        error = float(np.abs(image.get() - expected).max() / expected.max())
        seconds = gpu_seconds(partial(model.photons, scene, image))
        print(
            f"{case.name}: {1 / seconds:.1f} images/s, {case.nominal / seconds / 1e9:.0f} G nominal/s, "
            f"first call {first:.1f} s with compilation, largest difference {error:.1e} of the maximum"
        )
        if len(case.detector) > 1:
            continue
        pixels = strong_windows(expected.reshape(case.detector[0].shape))
        many = np.tile(pixels, (16, 1))  # sixteen shots' worth, to fill the device
        reference = bragg_gradients(scene, pixels)
        found = model.gradients(scene, pixels)
        largest = np.maximum(np.abs(reference.derivatives).max(axis=1, keepdims=True), 1e-300)
        error = float((np.abs(found.derivatives.get() - reference.derivatives) / largest).max())
        seconds = gpu_seconds(partial(model.gradients, scene, many))
        print(
            f"{case.name}, 77 windows, all gradients: {16 / seconds:.0f} shots/s, "
            f"{len(many) * case.n_channels * case.n_blocks / seconds / 1e9:.1f} G nominal/s, "
            f"largest difference {error:.1e}"
        )


def large(n_images: int = 20) -> None:
    """Whole shots of 16.5 Mpx by the simulate step's own machinery, in a process of its own for its peak memory."""
    program = (
        "import resource, sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from forward_model import shots\n"
        "shots(int(sys.argv[2]))\n"
    )
    here = str(Path(__file__).resolve().parent)
    subprocess.run([sys.executable, "-c", program, here, str(n_images)], check=True)


def shots(n_images: int) -> None:
    from exafel.bragg.sample import read_sample
    from exafel.bragg.shots import ShotSimulator

    root = Path(__file__).resolve().parent.parent
    config = SimulateSfxConfig.model_validate(
        {
            "structure": str(root / "workflows/config/demo/1a8o.pdb"),
            "d_min_angstrom": 1.8,
            "no_hit_fraction": 0.0,
            "crystal": {"mosaic_blocks": 25, "n_cells": (30, 30, 30)},
            "pulse": {"channels": 100},
        }
    )
    simulator = ShotSimulator(config, jungfrau_like(), read_sample(config))
    seconds = []
    for number in range(n_images):
        start = time.process_time()
        simulator.shot(number)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{n_images} shots of 16.5 Mpx, 100 channels, 25 blocks, background and noise: median "
        f"{np.median(seconds):.2f} CPU-s an image on one core, peak memory {peak:.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="also on the GPU")
    parser.add_argument("--large", action="store_true", help="also 20 whole shots of 16.5 Mpx")
    arguments = parser.parse_args()
    one = Case("1024^2, 100 channels, 1 block", flat(1024, 0.177, 105.0), 100, 1)
    many = Case("1024^2, 100 channels, 25 blocks", flat(1024, 0.177, 105.0), 100, 25)
    wide = Case("16.5 Mpx, 100 channels, 25 blocks", jungfrau_like(), 100, 25)
    print(f"instruction set {_kernels.isa()}, one core")
    print(f"{'':52}{'ms':>10}{'M nominal/s':>12}{'M computed/s':>13}  ratio to nanoBragg / diffBragg")
    whole_images([one, many])
    windows_with_gradients(one)
    windows_with_gradients(many)
    ceiling()
    threads(many)
    if arguments.large:
        large()
    if arguments.gpu:
        gpu([one, many, wide])


if __name__ == "__main__":
    main()
