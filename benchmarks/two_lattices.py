"""How many shots of two crystals are indexed as two lattices, on made images with known truth.

    python benchmarks/two_lattices.py [--shots 50] [--seed 1]

Each shot has two crystals of the demonstration's protein in random orientations, their sizes drawn apart, in one SASE
pulse with the scattering of water and counting noise. A lattice is found where its orientation is within 0.2 degrees
of a true one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray
from exafel.bragg.background import detect, water_background
from exafel.bragg.detectors import grid_detector
from exafel.bragg.forward import CrystalModel, bragg_photons, split_panels
from exafel.bragg.shots import mosaic_rotations, nominal_beam, random_pulse, random_rotation
from exafel.bragg.structure_factors import structure_factor_table
from exafel.config.indexing import IndexingConfig
from exafel.config.simulate import SimulateSfxConfig
from exafel.config.spotfinding import SpotFindingConfig
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.geometry import Beam
from exafel.io.structure import read_structure, structure_factors
from exafel.stills.indexing import index_shot
from exafel.stills.masks import good_masks
from exafel.stills.misorientation import misorientation_deg
from exafel.stills.spotfinding import find_spots

ROOT = Path(__file__).resolve().parents[1]
FOUND_DEG = 0.2


@dataclass
class TwoCrystals:
    """Makes shots of two crystals."""

    config: SimulateSfxConfig

    def __post_init__(self) -> None:
        path = ROOT / self.config.structure
        structure = read_structure(path)
        self.group = structure.find_spacegroup()
        self.cell = structure.cell.parameters
        hkl, F = structure_factors(path, self.config.d_min_angstrom, None)
        self.table = structure_factor_table(hkl, np.abs(F), self.group, anomalous=False)
        self.detector = grid_detector(self.config.detector, self.config.readout)
        self.background = water_background(
            self.detector, nominal_beam(self.config.pulse), self.config.water_thickness_um
        )

    def shot(self, number: int) -> tuple[list[AnyArray], Beam, list[Crystal]]:
        """Return the images, the pulse and the crystals of a shot."""
        config = self.config
        rng = np.random.default_rng([config.seed, number])
        beam = random_pulse(rng, config.pulse)
        photons = beam.flux * self.background
        crystals = []
        for _ in range(2):
            basis = (random_rotation(rng) @ orthogonalization(self.cell)).T
            crystals.append(Crystal(np.asarray(basis), str(self.group.hall)))
            turns = mosaic_rotations(rng, config.crystal.mosaic_blocks, np.radians(config.crystal.mosaicity_deg))
            size = 1e4 * config.crystal.size_um * np.exp(config.crystal.size_jitter * rng.standard_normal())
            scale = size**3 / (abs(np.linalg.det(basis)) * np.prod(config.crystal.n_cells))
            model = CrystalModel(basis @ turns.transpose(0, 2, 1), config.crystal.n_cells, scale)
            fluence = beam.flux / (config.pulse.beam_size_um * 1e-6) ** 2
            image = bragg_photons(self.detector, beam, model, self.table, fluence_per_m2=fluence, cut=15.0)
            photons = photons + np.concatenate([panel.ravel() for panel in image.panels])
        counts = detect(rng, photons, gain=1.0, read_noise_photons=0.0, saturation_photons=60000.0)
        return split_panels(counts, self.detector), beam, crystals


def n_found(made: TwoCrystals, number: int) -> tuple[int, int]:
    """Number of true lattices found in a shot, and of lattices that are none of the true ones."""
    frames, beam, crystals = made.shot(number)
    masks = good_masks(frames, made.detector)
    spots = find_spots(frames, masks, made.detector, beam, SpotFindingConfig())
    config = IndexingConfig(unit_cell=made.cell, space_group=made.group.hm, max_lattices=3)
    lattices = index_shot(spots, made.detector, beam, config)
    near = np.array(
        [[misorientation_deg(item.crystal.A, true.A, made.group) < FOUND_DEG for true in crystals] for item in lattices]
    ).reshape(len(lattices), 2)
    return int(near.any(axis=0).sum()), int((~near.any(axis=1)).sum())


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description="Shots of two crystals.")
    parser.add_argument("--shots", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made = TwoCrystals(SimulateSfxConfig(seed=options.seed))
    found = np.array([n_found(made, number) for number in range(options.shots)])
    both, one, none = (int((found[:, 0] == n).sum()) for n in (2, 1, 0))
    print(f"{options.shots} shots of two crystals: both found in {both}, one in {one}, none in {none}")
    print(f"lattices that are none of the true ones: {int(found[:, 1].sum())}")


if __name__ == "__main__":
    main()
