"""Single-particle imaging beside its peers: shots beside a file that skopi made, and what an exact sum over atoms says.

    python benchmarks/spi_peers.py --shots 3iyf_clean_500.h5 --structure 3iyf.pdb.xz

Both are compared with the sum over atoms written out, at a few hundred pixels of a few shots, in one run.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.io.spi_file import SpiShots
from exafel.spi.particles import Particle, read_particles
from exafel.spi.rotations import matrices
from exafel.spi.shots import SpiSimulator


def summed(particle: Particle, s: np.ndarray) -> np.ndarray:
    """Scattering amplitude, atom by atom."""
    length = np.linalg.norm(s, axis=0)
    total = np.zeros(s.shape[1], dtype=complex)
    for part in particle.parts:
        for rows in np.array_split(np.arange(len(part.positions)), 1 + len(part.positions) // 5000):
            phase = np.exp(2j * np.pi * (part.positions[rows] @ s))
            total += part.form_factor(length) * (part.weights[rows] @ phase)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shots", type=Path, required=True, help="noise-free shots made by skopi, with orientations")
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--pixels", type=int, default=200)
    parser.add_argument("--n", type=int, default=3, help="shots")
    options = parser.parse_args()
    shots, particle = SpiShots([options.shots]), read_particles(options.structure)[0]
    true = shots.truth("orientations")
    if true is None:
        raise SystemExit(f"{options.shots}: no orientations")
    made = SpiSimulator(SimulateSpiConfig(oversample=1), [particle], [1.0])
    plans = [replace(made.plan(0), orientations=true[i : i + 1]) for i in range(options.n)]
    start = time.process_time()
    ours = made.expected(plans)
    print(f"ours: {(time.process_time() - start) / options.n * 1e3:.0f} CPU-ms a shot of {ours.shape[1]} pixels")
    theirs = shots.read(range(options.n)).astype(np.float64)
    rows = np.random.default_rng(1).choice(ours.shape[1], options.pixels, replace=False)
    s = made.reciprocal().reshape(3, -1)[:, rows]
    factor = made.expected(plans[:1])[0][rows] / np.abs(particle.amplitude(matrices(true[0]).T @ s)) ** 2
    for number in range(options.n):
        exact = factor * np.abs(summed(particle, matrices(true[number]).T @ s)) ** 2
        error = np.abs(ours[number][rows] - exact).max() / exact.max()
        peer = theirs[number][rows]
        scale = (peer @ exact) / (peer @ peer)
        rms = np.linalg.norm(scale * peer - exact) / np.linalg.norm(exact)
        print(
            f"shot {number}: ours against the sum {error:.1e} (largest, of the brightest); skopi, scaled and over "
            f"2 x 2 pixels, {rms:.3f} (rms)"
        )


if __name__ == "__main__":
    main()
