"""How many shots of two crystals are indexed as two lattices, on made images with known truth.

    python benchmarks/two_lattices.py [--shots 50] [--seed 1]

Each shot is the sum of two simulated ones: two crystals of the demonstration's protein in random orientations, their
sizes drawn apart, with the scattering of water and counting noise. Pulses have one wavelength, so that the two belong
together. A lattice is found where its orientation is within 0.2 degrees of a true one.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray
from exafel.config.indexing import IndexingConfig
from exafel.config.simulate import SimulateSfxConfig
from exafel.config.spotfinding import SpotFindingConfig
from exafel.io.crystal import Crystal
from exafel.io.geometry import Beam
from exafel.io.nxmx import NXmxSource
from exafel.io.truth import read_truth
from exafel.parallel.comm import SerialComm
from exafel.steps import simulate
from exafel.stills.indexing import index_shot
from exafel.stills.masks import good_masks
from exafel.stills.misorientation import misorientation_deg
from exafel.stills.spotfinding import find_spots

ROOT = Path(__file__).resolve().parents[1]
FOUND_DEG = 0.2


@dataclass
class TwoCrystals:
    """Shots of two crystals, made in a folder."""

    folder: Path
    n_shots: int
    seed: int = 1
    source: NXmxSource = field(init=False)
    crystals: list[Crystal] = field(init=False)

    def __post_init__(self) -> None:
        config = SimulateSfxConfig(
            structure=str(ROOT / "workflows" / "config" / "demo" / "1a8o.pdb"),
            n_shots=2 * self.n_shots,
            no_hit_fraction=0.0,
            seed=self.seed,
            pulse={"channels": 1, "energy_jitter_percent": 0.0},
            crystal={"mosaic_blocks": 6, "mosaicity_deg": 0.1},
            water_thickness_um=2.5,
        )
        simulate.run(simulate.request(config, self.folder), SerialComm())
        self.source = NXmxSource(self.folder / "rank-00000.h5")
        shots = sorted(read_truth(self.folder).shots, key=lambda shot: shot.index)
        self.crystals = [shot.crystal for shot in shots if shot.crystal is not None]

    def shot(self, number: int) -> tuple[list[AnyArray], Beam, list[Crystal]]:
        """Return the images, the pulse and the crystals of a shot."""
        pair = (2 * number, 2 * number + 1)
        first, second = (self.source.frame(index) for index in pair)
        frames = [one + other for one, other in zip(first, second, strict=True)]
        return frames, self.source.beam(pair[0]), [self.crystals[index] for index in pair]

    def n_found(self, number: int) -> tuple[int, int]:
        """Number of true lattices found in a shot, and of lattices that are none of the true ones."""
        frames, beam, crystals = self.shot(number)
        detector, group = self.source.detector(2 * number), crystals[0].space_group
        spots = find_spots(frames, good_masks(frames, detector), detector, beam, SpotFindingConfig())
        a, _, c = crystals[0].cell[:3]
        config = IndexingConfig(unit_cell=(a, a, c, 90, 90, 90), space_group=group.hm, max_lattices=3)
        lattices = index_shot(spots, detector, beam, config)
        angles = [[misorientation_deg(item.crystal.A, true.A, group) for true in crystals] for item in lattices]
        near = np.array(angles).reshape(len(lattices), 2) < FOUND_DEG
        return int(near.any(axis=0).sum()), int((~near.any(axis=1)).sum())


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description="Shots of two crystals.")
    parser.add_argument("--shots", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = TwoCrystals(Path(folder), options.shots, options.seed)
        found = np.array([made.n_found(number) for number in range(options.shots)])
    both, one, none = (int((found[:, 0] == n).sum()) for n in (2, 1, 0))
    print(f"{options.shots} shots of two crystals: both found in {both}, one in {one}, none in {none}")
    print(f"lattices that are none of the true ones: {int(found[:, 1].sum())}")


if __name__ == "__main__":
    main()
