"""The simulator against atoms summed one by one, and each of its features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.config.simulate_spi import AutorangingReadout, GainStage, SimulateSpiConfig
from exafel.errors import InputError
from exafel.spi.detectors import pixel_places, read_out
from exafel.spi.particles import Particle, hydrated, read_particles
from exafel.spi.rotations import matrices
from exafel.spi.shots import ELECTRON_RADIUS_ANGSTROM, ShotPlan, SpiSimulator

from .conftest import blobs, config, write_pdb


def simulator(settings: SimulateSpiConfig, *particles: Particle) -> SpiSimulator:
    return SpiSimulator(settings, particles, [1.0] * len(particles))


def test_the_amplitude_is_the_sum_over_atoms(pdb: Path, particle: Particle) -> None:
    s = np.random.default_rng(1).uniform(-0.08, 0.08, size=(3, 200))
    structure = gemmi.read_structure(str(pdb))
    atoms = [site.atom for site in structure[0].all()]
    positions = np.array([atom.pos.tolist() for atom in atoms])
    z = np.array([atom.element.atomic_number for atom in atoms])
    positions -= (z @ positions) / z.sum()
    stol2 = (s * s).sum(axis=0) / 4
    f = np.array([[atom.element.it92.calculate_sf(float(x)) for x in stol2] for atom in atoms])
    expected = (f * np.exp(2j * np.pi * positions @ s)).sum(axis=0)
    found = particle.amplitude(s)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_expected_photons_are_those_of_thomson_scattering(pdb: Path, one_atom: Particle) -> None:
    settings = config(pdb, oversample=1)
    made = simulator(settings, one_atom)
    expected = made.expected([made.plan(0)])[0]
    row = 5 * 24 + 7
    x, y, z = made.places.centre_mm.reshape(-1, 3)[row]
    distance = np.sqrt(x * x + y * y + z * z)
    s = np.linalg.norm(made.reciprocal().reshape(3, -1)[:, row])
    f = gemmi.Element("C").it92.calculate_sf(s * s / 4)
    solid = (100 / 24) ** 2 * z / distance**3
    fluence = 1e12 / (np.pi * 300.0**2)
    hand = fluence * ELECTRON_RADIUS_ANGSTROM**2 * (1 - (x / distance) ** 2) * solid * f * f
    assert expected[row] == pytest.approx(hand, rel=1e-4)


def test_displacement_factors_blur(pdb: Path, particle: Particle) -> None:
    s = np.array([[0.0, 0.05, 0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    ratio = read_particles(pdb, b_factors=True)[0].amplitude(s) / particle.amplitude(s)
    np.testing.assert_allclose(ratio, np.exp(-20 * s[0] ** 2 / 4), rtol=1e-5)


def test_two_particles_scatter_coherently(pdb: Path, particle: Particle) -> None:
    made = simulator(config(pdb, particles_per_shot=3.0), particle)
    plan = next(p for p in map(made.plan, range(20)) if len(p.orientations) == 2)
    s = made.reciprocal().reshape(3, -1)
    wave = sum(
        particle.amplitude(matrices(q).T @ s) * np.exp(2j * np.pi * position @ s)
        for q, position in zip(plan.orientations, plan.positions_angstrom, strict=True)
    )
    found = made.expected([plan])[0]
    ratio = found / np.abs(wave) ** 2
    area = made.places.solid_angle()
    np.testing.assert_allclose(ratio / ratio[0], (ratio[0] * area / area[0] / ratio[0]), rtol=0.15)
    alone = sum(made.expected([_alone(plan, k)])[0] for k in range(2))
    assert np.abs(found / alone - 1).max() > 0.5  # interference, where an incoherent sum has none
    assert found.sum() == pytest.approx(alone.sum(), rel=0.3)
    assert np.linalg.norm(plan.positions_angstrom, axis=1).max() <= 300.0


def _alone(plan: ShotPlan, k: int) -> ShotPlan:
    return replace(
        plan,
        orientations=plan.orientations[k : k + 1],
        conformations=plan.conformations[k : k + 1],
        positions_angstrom=np.zeros((1, 3)),
    )


def test_fluence_goes_both_ways_and_keeps_its_mean(pdb: Path, particle: Particle) -> None:
    made = simulator(config(pdb, pulse={"fluence_jitter": 0.3}), particle)
    fluence = np.array([made.plan(i).fluence for i in range(2000)])
    assert fluence.mean() == pytest.approx(1.0, abs=0.03)
    assert fluence.std() == pytest.approx(0.3, abs=0.03)
    assert (fluence < 1).mean() > 0.4
    focus = simulator(config(pdb, pulse={"gaussian_focus": True}), particle)
    fluence = np.array([focus.plan(i).fluence for i in range(2000)])
    assert fluence.max() <= 2.0
    assert fluence.mean() == pytest.approx(1 - np.exp(-2), abs=0.03)


def test_spectra_are_spiky_and_energies_add_incoherently(pdb: Path, particle: Particle) -> None:
    pulse = {"bandwidth_percent": 2.0, "channels": 6, "focus_radius_um": 0.03}
    made = simulator(config(pdb, pulse=pulse), particle)
    plans = [made.plan(i) for i in range(40)]
    for plan in plans:
        assert plan.weights.sum() == pytest.approx(1.0)
        assert (np.diff(plan.energies_ev) > 0).all()
    weights = np.array([plan.weights for plan in plans])
    assert weights.std(axis=0).max() > 0.03  # no two spectra are alike
    mean = np.array([plan.weights @ plan.energies_ev for plan in plans])
    assert mean.mean() == pytest.approx(4600, rel=2e-3)
    plan = plans[0]
    parts = [
        weight * made.expected([replace(plan, energies_ev=np.array([energy]), weights=np.ones(1))])[0]
        for energy, weight in zip(plan.energies_ev, plan.weights, strict=True)
    ]
    np.testing.assert_allclose(made.expected([plan])[0], np.sum(parts, axis=0), rtol=1e-3, atol=1e-5)


def test_water_is_a_layer_of_its_thickness_and_density(particle: Particle) -> None:
    wet = hydrated(particle, 4.0, 0.334, 1.5)
    water = wet.parts[-1]
    atoms = np.concatenate([part.positions for part in particle.parts])
    nearest = np.array([np.linalg.norm(atoms - voxel, axis=1).min() for voxel in water.positions[::7]])
    assert nearest.min() >= 2.8
    assert nearest.max() <= 6.8
    origin = np.zeros((3, 1))
    added = (wet.amplitude(origin) - particle.amplitude(origin)).real[0]
    assert added == pytest.approx(0.334 * 1.5**3 * len(water.positions), rel=1e-5)
    assert hydrated(particle, 0.0, 0.334, 2.0) is particle


def test_autoranging_pixels_switch_quantise_and_saturate() -> None:
    stages = (
        GainStage(adu_per_photon=100.0, up_to_photons=10.0, noise_adu=0.0),
        GainStage(adu_per_photon=1.0, up_to_photons=50.0, noise_adu=0.0),
    )
    readout = AutorangingReadout(stages=stages)
    photons = np.array([3.004, 9.999, 10.4, 30.6, 70.0])
    found = read_out(photons, readout, np.random.default_rng(0))
    np.testing.assert_allclose(found, [3.0, 10.0, 10.0, 31.0, 50.0], atol=1e-9)
    noisy = AutorangingReadout(stages=(GainStage(adu_per_photon=10.0, up_to_photons=99.0, noise_adu=5.0),))
    found = read_out(np.full(4000, 20.0), noisy, np.random.default_rng(1))
    assert found.mean() == pytest.approx(20.0, abs=0.05)
    assert found.std() == pytest.approx(0.5, rel=0.1)


def test_conformations_come_in_their_shares_and_from_the_models_of_a_file(tmp_path: Path, pdb: Path) -> None:
    single = pdb.read_text().replace("END\n", "")
    both = tmp_path / "two.pdb"
    both.write_text(f"MODEL        1\n{single}ENDMDL\nMODEL        2\n{single}ENDMDL\nEND\n")
    models = read_particles(both)
    assert [item.name for item in models] == ["two.pdb:0", "two.pdb:1"]
    made = SpiSimulator(config(pdb), models, [3.0, 1.0])
    kinds = np.concatenate([made.plan(i).conformations for i in range(800)])
    assert (kinds == 0).mean() == pytest.approx(0.75, abs=0.05)


def test_noise_background_miscentring_and_dead_pixels(pdb: Path, particle: Particle) -> None:
    noise = {"background_photons": 4.0, "background_slope": 0.5, "dead_fraction": 0.1, "miscentring_px": 0.7}
    made = simulator(config(pdb, noise=noise), particle)
    plans = [made.plan(i) for i in range(300)]
    assert np.std([plan.offset_px for plan in plans]) == pytest.approx(0.7, rel=0.1)
    blank = np.zeros(24 * 24)
    images = np.array([made.measured(plan, blank) for plan in plans])
    assert (images[:, ~made.good] == 0).all()
    assert (~made.good).mean() == pytest.approx(0.1, abs=0.05)
    left, right = (images[..., columns][:, made.good[..., columns]].mean() for columns in (slice(0, 3), slice(21, 24)))
    assert right / left == pytest.approx(1.46 / 0.54, rel=0.1)
    good = images[:, made.good]
    np.testing.assert_allclose(good.var(axis=0).mean(), good.mean(), rtol=0.05)  # Poisson
    plan = plans[0]
    moved = made.expected([replace(plan, offset_px=np.array([3.0, 0.0]))])[0].reshape(24, 24)
    still = made.expected([replace(plan, offset_px=np.zeros(2))])[0].reshape(24, 24)
    assert np.corrcoef(moved[:, 3:].ravel(), still[:, :-3].ravel())[0, 1] > 0.98


def test_shots_depend_on_the_seed_and_their_number_alone(pdb: Path, particle: Particle) -> None:
    first, second = (simulator(config(pdb), particle) for _ in range(2))
    plans = [first.plan(i) for i in (3, 4)]
    together = first.expected(plans)
    alone = second.expected([second.plan(4)])
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-5)
    np.testing.assert_array_equal(first.measured(plans[1], alone[0]), second.measured(plans[1], alone[0]))


def test_detectors_have_their_pixels_where_they_should_be() -> None:
    pnccd = SimulateSpiConfig.model_validate({"detector": {"type": "pnccd", "quadrant_px": 16, "hole_mm": 0.2}})
    places = pixel_places(pnccd.detector)
    assert places.shape == (4, 16, 16)
    y = places.centre_mm[..., 1]
    assert np.abs(y).min() == pytest.approx(1.0 + 0.075 / 2)  # half the gap and half a pixel
    panels = {"type": "panels", "pixel_size_mm": 1.0, "panels": [{"size_px": [4, 2], "centre_mm": [10, 0, 100]}]}
    places = pixel_places(SimulateSpiConfig.model_validate({"detector": panels}).detector)
    assert places.shape == (1, 2, 4)
    np.testing.assert_allclose(places.centre_mm[0, 0, 0], [8.5, -0.5, 100])
    assert places.points(2).shape == (8, 4, 3)


def test_files_without_atoms_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pdb"
    empty.write_text("END\n")
    with pytest.raises(InputError, match="no atoms"):
        read_particles(empty)
    with pytest.raises(InputError, match="absent"):
        read_particles(tmp_path / "absent.pdb")
    hydrogens = write_pdb(tmp_path / "small.pdb", blobs(1)[:8])
    assert read_particles(hydrogens)[0].n_atoms == 8
