"""Speed of the forward model on one core: terms a second, and seconds for the demonstration's images.

A term is one Gaussian of one (subpixel, energy channel, mosaic block), the unit in which nanoBragg's and diffBragg's
speeds are given. Only terms whose exponent was computed are counted; for those below the cut that is all there is to
do. "Whole-image equivalent" is what a program that visits every term of every pixel would have had to compute for the
same image; divided by our time it compares programs, it is not a number of computations.

Run with ``python benchmarks/forward_model.py``; set OMP_NUM_THREADS=1 to keep NumPy to one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from exafel import _kernels
from exafel.bragg.detectors import grid_detector
from exafel.bragg.forward import BraggImage, bragg_photons
from exafel.bragg.scene import CrystalModel
from exafel.bragg.shots import ShotSimulator, mosaic_rotations, random_pulse, random_rotation
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.simulate import SimulateSfxConfig
from exafel.io.crystal import orthogonalization, space_group

CELL = (41.98, 41.98, 88.92, 90.0, 90.0, 90.0)
REPEATS = 3


def fastest(work: Callable[[], BraggImage]) -> tuple[float, BraggImage]:
    """Least CPU seconds of a few runs, and the result."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        image = work()
        seconds.append(time.process_time() - start)
    return min(seconds), image


def main() -> None:
    """Print the table."""
    config = SimulateSfxConfig(no_hit_fraction=0.0)
    detector = grid_detector(config.detector, config.readout)
    rng = np.random.default_rng(1)
    beam = random_pulse(rng, config.pulse)
    basis = (random_rotation(rng) @ orthogonalization(CELL)).T
    reach = np.array([22, 22, 45])
    values = rng.exponential(1e4, 2 * reach + 1)
    values[tuple(reach)] = 0
    table = StructureFactorTable(values, -reach)
    print(f"instruction set {_kernels.isa()}; {detector.n_pixels} pixels, {config.pulse.channels} channels, one core")
    print(f"{'way':12}{'blocks':>7}{'s/image':>10}{'M terms':>10}{'M terms/s':>11}{'whole-image equivalent, M/s':>30}")
    for all_pixels, n_blocks in ((True, 1), (False, 1), (False, 10)):
        blocks = basis @ mosaic_rotations(rng, n_blocks, np.radians(0.05)).transpose(0, 2, 1)
        crystal = CrystalModel(blocks, config.crystal.n_cells)
        seconds, image = fastest(
            lambda crystal=crystal, every=all_pixels: bragg_photons(
                detector, beam, crystal, table, fluence_per_m2=1e23, all_pixels=every
            )
        )
        whole = detector.n_pixels * config.pulse.channels * n_blocks
        name = "every pixel" if all_pixels else "windows"
        rates = f"{image.n_terms / seconds / 1e6:11.0f}{whole / seconds / 1e6:30.0f}"
        print(f"{name:12}{n_blocks:7d}{seconds:10.3f}{image.n_terms / 1e6:10.2f}{rates}")
    simulator = ShotSimulator(config, detector, table, CELL, space_group("P43212"))
    start = time.process_time()
    for number in range(10):
        simulator.shot(number)
    print(f"whole shots with background and noise: {(time.process_time() - start) / 10:.3f} CPU-s an image")


if __name__ == "__main__":
    main()
