"""Random pulses, crystals and noise: their statistics, and that a shot depends on its number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exafel.bragg.background import diffuse_background, measured_background, water_intensity
from exafel.bragg.detectors import grid_detector, simulated_detector
from exafel.bragg.readout import detect, psf_kernel, spread
from exafel.bragg.sample import Sample
from exafel.bragg.shots import (
    ShotSimulator,
    jittered_cell,
    mosaic_bases,
    mosaic_rotations,
    nominal_beam,
    random_pulse,
    random_rotation,
)
from exafel.bragg.spectrum import energy_grid, sase_spectrum
from exafel.bragg.structure_factors import structure_factor_table
from exafel.config.simulate import CrystalConfig, GridDetector, PsfConfig, PulseConfig, ReadoutConfig, SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.crystal import space_group
from exafel.io.geometry import EV_ANGSTROM

CELL = (42.0, 42.0, 89.0, 90.0, 90.0, 90.0)


def small_simulator(**changes: object) -> ShotSimulator:
    config = SimulateSfxConfig.model_validate(
        {
            "detector": {"type": "grid", "panel_size_px": (64, 64), "pixel_size_mm": 1.0, "distance_mm": 80.0},
            "seed": 5,
            **changes,
        }
    )
    group = space_group("P43212")
    hkl = np.array([(h, k, m) for h in range(1, 10) for k in range(h + 1) for m in range(1, 20)])
    table = structure_factor_table(hkl, 50.0 + np.arange(len(hkl)) % 7, group)
    sample = Sample(table, hkl, np.ones(len(hkl)), CELL, group, anomalous=False)
    return ShotSimulator(config, simulated_detector(config), sample)


def test_a_shot_depends_on_the_seed_and_its_number_alone() -> None:
    one, other = small_simulator(), small_simulator()
    for number in (3, 0):
        one.shot(number)
    first, again = one.shot(7), other.shot(7)
    np.testing.assert_array_equal(first.images[0], again.images[0])
    assert first.beam.wavelength_angstrom == again.beam.wavelength_angstrom
    assert not np.array_equal(first.images[0], one.shot(8).images[0])
    assert not np.array_equal(first.images[0], small_simulator(seed=6).shot(7).images[0])


def test_misses_are_as_frequent_as_asked_and_show_background_alone() -> None:
    simulator = small_simulator(no_hit_fraction=0.3, pulse={"photons_jitter_percent": 0.0})
    shots = [simulator.shot(number) for number in range(150)]
    missed = [shot for shot in shots if shot.crystal is None]
    assert 25 <= len(missed) <= 65
    beam = nominal_beam(PulseConfig())
    background = beam.flux * diffuse_background(simulator.detector, beam, water_um=5.0)
    mean = np.mean([shot.images[0] for shot in missed], axis=0).ravel()
    z = (mean - background) / np.sqrt(background / len(missed))
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1, abs=0.05)
    assert max(shot.images[0].max() for shot in shots if shot.crystal is not None) > 5 * mean.max()


def test_the_crystal_fills_the_volume_asked_for() -> None:
    shot = small_simulator(
        no_hit_fraction=0.0, crystal={"size_jitter": 0.0, "size_um": 1.0, "n_cells": (30, 31, 32)}
    ).shot(0)
    assert shot.crystal is not None
    block = abs(np.linalg.det(shot.crystal.real_space)) * 30 * 31 * 32
    assert shot.scale * block == pytest.approx(1e12)
    assert shot.crystal.cell[0] == pytest.approx(shot.crystal.cell[1], abs=1e-9)


@pytest.mark.parametrize(
    ("group", "cell", "free"),
    [
        ("P23", (50.0, 50.0, 50.0, 90.0, 90.0, 90.0), 1),
        ("P43212", CELL, 2),
        ("P6122", (93.0, 93.0, 130.0, 90.0, 90.0, 120.0), 2),
        ("P212121", (30.0, 40.0, 50.0, 90.0, 90.0, 90.0), 3),
        ("R3:R", (50.0, 50.0, 50.0, 80.0, 80.0, 80.0), 1),
    ],
)
def test_cells_vary_as_symmetry_allows(group: str, cell: tuple[float, ...], free: int) -> None:
    rng = np.random.default_rng(1)
    cells = np.array([jittered_cell(rng, cell, space_group(group), 0.01) for _ in range(400)])
    factors = cells[:, :3] / np.array(cell[:3])
    assert len({tuple(np.round(column, 12)) for column in factors.T}) == free
    assert factors.std(axis=0) == pytest.approx(0.01, rel=0.15)
    np.testing.assert_array_equal(cells[:, 3:], np.tile(cell[3:], (400, 1)))


def test_orientations_are_even() -> None:
    rng = np.random.default_rng(2)
    rotations = np.array([random_rotation(rng) for _ in range(4000)])
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-12
    )
    assert np.all(np.linalg.det(rotations) > 0)
    assert np.abs(rotations.mean(axis=0)).max() < 0.04
    # For the Haar measure the mean of (trace)^2 is 1.
    assert np.mean(np.trace(rotations, axis1=1, axis2=2) ** 2) == pytest.approx(1, abs=0.08)


def test_mosaic_blocks_spread_as_asked_about_the_mean() -> None:
    rotations = mosaic_rotations(np.random.default_rng(3), 2001, np.radians(0.1))
    assert len(rotations) == 2001
    angles = np.degrees(np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(0.1, rel=0.05)
    mean = rotations.mean(axis=0)
    np.testing.assert_allclose(mean - mean.T, 0, atol=1e-15)
    assert len(mosaic_rotations(np.random.default_rng(3), 10, 0.0)) == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), channels=st.integers(1, 120), percent=st.floats(0, 3))
def test_spectra_are_normalised_and_inside_their_channels(seed: int, channels: int, percent: float) -> None:
    beam = random_pulse(np.random.default_rng(seed), PulseConfig(channels=channels, bandwidth_percent=percent))
    spectrum = beam.spectrum
    assert spectrum is not None
    assert spectrum.weights.sum() == pytest.approx(1)
    assert np.all(spectrum.weights >= 0)
    low, high = spectrum.wavelengths_angstrom.min(), spectrum.wavelengths_angstrom.max()
    assert low * (1 - 1e-12) <= beam.wavelength_angstrom <= high * (1 + 1e-12)


def test_spikes_are_those_of_chaotic_light() -> None:
    rng = np.random.default_rng(4)
    energies = energy_grid(9500.0, 30.0, 0.0, 91)
    raw = np.array([sase_spectrum(rng, energies, 9500.0, 1e6, 3.0).weights for _ in range(3000)])
    centre = raw[:, 40]
    assert centre.std() / centre.mean() == pytest.approx(1, abs=0.12)  # negative exponential
    lags = np.array([np.corrcoef(centre, raw[:, 40 + lag])[0, 1] for lag in range(8)])
    half_width = np.interp(0.5, lags[::-1], np.arange(8)[::-1])
    assert half_width * (energies[1] - energies[0]) == pytest.approx(1.5, rel=0.2)
    mean = np.mean([sase_spectrum(rng, energies, 9500.0, 30.0, 3.0).weights for _ in range(2000)], axis=0)
    above = energies[mean > mean.max() / 2]
    assert above.max() - above.min() == pytest.approx(30, abs=3)


def test_the_water_is_wet() -> None:
    """Known facts: ten electrons at rest times the compressibility limit, and the ring at 2 / angstrom."""
    q = np.linspace(0, 8, 801)
    intensity = water_intensity(q)
    assert intensity[0] == pytest.approx(100 * 0.063, rel=0.06)
    assert q[intensity.argmax()] == pytest.approx(2.0, abs=0.2)
    assert intensity[-1] < 10.1


def test_background_follows_thickness_and_solid_angle() -> None:
    pulse = PulseConfig()
    near, far = (
        grid_detector(GridDetector(panel_size_px=(4, 4), distance_mm=distance), ReadoutConfig())
        for distance in (100.0, 200.0)
    )
    beam = nominal_beam(pulse)
    thin, thick = (diffuse_background(near, beam, water_um=micrometres) for micrometres in (5.0, 10.0))
    assert thick == pytest.approx(2 * thin)
    ratio = thin.mean() / diffuse_background(far, beam, water_um=5.0).mean()
    assert ratio == pytest.approx(4, rel=1e-3)
    assert beam.wavelength_angstrom == pytest.approx(EV_ANGSTROM / 9500)


def test_readout_has_its_noise_gain_and_saturation() -> None:
    photons = np.full(100000, 20.0)
    rng = np.random.default_rng(6)
    counts = detect(rng, photons, ReadoutConfig(gain=5.0, read_noise_photons=2.0, saturation_photons=1000.0))
    assert counts.dtype == np.int32
    assert counts.mean() == pytest.approx(100, abs=0.3)
    assert counts.std() == pytest.approx(5 * np.sqrt(20 + 4), rel=0.02)
    bright = detect(rng, np.array([1e6, 10.0]), ReadoutConfig(gain=5.0, saturation_photons=1000.0))
    assert bright[0] == 5000
    assert bright[1] % 5 == 0


def test_a_grid_of_panels_is_centred_and_does_not_overlap() -> None:
    config = GridDetector(panel_size_px=(20, 10), panels=(2, 3), gap_px=4, pixel_size_mm=0.5, distance_mm=90.0)
    detector = grid_detector(config, ReadoutConfig(gain=3.0, saturation_photons=100.0, read_noise_photons=1.0))
    corners = np.array(
        [panel.pixel_to_lab(np.array([[0.0, 0.0], panel.image_size]))[[0, 1]] for panel in detector.panels]
    )
    assert len(detector) == 6
    assert corners[:, :, 2] == pytest.approx(-90)
    assert corners.mean(axis=(0, 1))[:2] == pytest.approx([0, 0])
    assert np.ptp(corners[:, :, 0]) == pytest.approx((2 * 20 + 4) * 0.5)
    assert np.ptp(corners[:, :, 1]) == pytest.approx((3 * 10 + 2 * 4) * 0.5)
    assert detector[1].origin_mm[0] - detector[0].origin_mm[0] == pytest.approx(24 * 0.5)
    assert detector[0].trusted_range == (-18.0, 299.0)
    assert detector[0].gain == 3.0


def test_air_scatters_as_its_density_and_electrons_say() -> None:
    detector = grid_detector(GridDetector(panel_size_px=(4, 4), pixel_size_mm=0.001), ReadoutConfig())
    beam = nominal_beam(PulseConfig())
    air = diffuse_background(detector, beam, air_mm=10.0)
    forward = 14.1**2  # nearly the fourteen electrons of N2, squared
    omega = 0.001**2 / 80.0**2
    expected = 0.01 * 101325 / (1.380649e-23 * 298.15) * 7.94079248e-30 * omega * forward
    assert air == pytest.approx(expected, rel=1e-3)


def test_a_measured_profile_is_put_where_its_q_is(tmp_path: Path) -> None:
    detector = grid_detector(GridDetector(panel_size_px=(32, 32), pixel_size_mm=4.0), ReadoutConfig())
    beam = nominal_beam(PulseConfig())
    path = tmp_path / "profile.csv"
    path.write_text("q,photons\n0,10\n1,20\n6,70\n")
    found = measured_background(path, detector, beam)
    fast, slow = np.meshgrid(np.arange(32) + 0.5 - 16, np.arange(32) + 0.5 - 16)
    two_theta = np.arctan(np.hypot(fast, slow).ravel() * 4.0 / 80.0)
    q = 4 * np.pi / beam.wavelength_angstrom * np.sin(two_theta / 2)
    np.testing.assert_allclose(found, 10 + 10 * q, rtol=1e-9)


@pytest.mark.parametrize("text", ["q,p\n0,1\n", "q,p\n1,1\n0,2\n", "q,p\n0,1\n1,-2\n", "a\n1\n2\n", "q,p\n0,x\n1,2\n"])
def test_a_wrong_profile_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.csv"
    path.write_text(text)
    detector = grid_detector(GridDetector(panel_size_px=(4, 4)), ReadoutConfig())
    with pytest.raises(InputError, match=r"profile\.csv"):
        measured_background(path, detector, nominal_beam(PulseConfig()))


@pytest.mark.parametrize("kind", ["gaussian", "fiber"])
def test_a_point_spreads_to_half_its_height_at_half_its_width(kind: str) -> None:
    psf = PsfConfig(type=kind, fwhm_mm=2.0, reach_px=60)
    kernel = psf_kernel(psf, (0.1, 0.2))
    assert kernel.shape == (121, 121)
    assert kernel.sum() == pytest.approx(1)
    along, across = kernel[60], kernel[:, 60]
    assert along[70] / along[60] == pytest.approx(0.5, rel=0.01)
    assert across[65] / across[60] == pytest.approx(0.5, rel=0.02)
    point = np.zeros((41, 41))
    point[20, 20] = 100.0
    seen = spread(point, psf_kernel(PsfConfig(type=kind, fwhm_mm=0.2, reach_px=8), (0.1, 0.1)))
    assert seen.sum() == pytest.approx(100)
    assert seen[20, 20] < 30
    np.testing.assert_allclose(seen, seen.T, atol=1e-12)


def test_three_mosaicities_spread_about_the_crystals_own_axes() -> None:
    rng = np.random.default_rng(8)
    crystal = small_simulator(no_hit_fraction=0.0).shot(0).crystal
    assert crystal is not None
    config = CrystalConfig(mosaicity_deg=(0.3, 0.1, 0.02), mosaic_blocks=4000)
    bases = mosaic_bases(rng, crystal, config)
    turns = np.linalg.solve(crystal.real_space, bases).transpose(0, 2, 1)  # R with basis = crystal @ R.T
    own = crystal.U.T @ turns @ crystal.U
    vectors = Rotation.from_matrix(own).as_rotvec(degrees=True)
    assert np.sqrt(np.mean(vectors**2, axis=0)) == pytest.approx([0.3, 0.1, 0.02], rel=0.05)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-9)
