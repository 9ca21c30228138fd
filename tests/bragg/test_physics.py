"""Sensor, divergence, shapes and energy-dependent structure factors against closed forms and direct sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.bragg.anomalous import ChannelStructureFactors, changing_elements, dispersion
from exafel.bragg.detectors import simulated_detector
from exafel.bragg.forward import bragg_photons, pixel_factors
from exafel.bragg.sample import read_sample
from exafel.bragg.scene import SHAPES, CrystalModel, Divergence, SceneOptions, Shape
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.simulate import SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.geometry import EV_ANGSTROM, Beam, Detector, Panel, Spectrum
from exafel.io.structure import read_structure, structure_factors
from exafel.io.truth import write_true_amplitudes

DEMO = Path(__file__).resolve().parents[2] / "workflows" / "config" / "demo" / "1a8o.pdb"
PIXEL = 0.05


def on_reflection(n: int = 61, thickness: float = 0.0, mu: float = 0.0) -> tuple[Detector, Beam, np.ndarray]:
    """A crystal on its (0, 4, 0), which falls on the middle of a panel; the crystal's basis is the third."""
    wavelength, a = 1.0, 12.0
    two_theta = 2 * np.arcsin(4 * wavelength / (2 * a))
    s1, s0 = np.array([0.0, np.sin(two_theta), -np.cos(two_theta)]), np.array([0.0, 0.0, -1.0])
    b = (s1 - s0) / np.linalg.norm(s1 - s0) * a
    a_vector = np.array([a, 0.0, 0.0])
    basis = np.array([a_vector, b, np.cross(a_vector, b) / a])
    centre = s1 / abs(s1[2]) * 100.0
    origin = centre + np.array([-PIXEL * n / 2, PIXEL * n / 2, 0.0])
    panel = Panel("p", origin, [1, 0, 0], [0, -1, 0], (PIXEL, PIXEL), (n, n), thickness_mm=thickness, mu_per_mm=mu)
    return Detector((panel,)), Beam(wavelength, polarization_fraction=1.0), basis


def table(value: float = 1.0) -> StructureFactorTable:
    """Of (0, 4, 0) alone."""
    values = np.zeros((9, 9, 9))
    values[4, 8, 4] = value
    return StructureFactorTable(values, np.full(3, -4))


def image(shape: Shape, n_cells: float, options: SceneOptions, *, n: int = 61, **sensor: float) -> np.ndarray:
    detector, beam, basis = on_reflection(n, **sensor)
    crystal = CrystalModel(basis[None], (n_cells, n_cells, n_cells), shape=shape)
    return bragg_photons(
        detector, beam, crystal, table(), fluence_per_m2=1e30, options=options, all_pixels=True
    ).panels[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_its_own_profile(shape: Shape) -> None:
    """Against the shapes' closed forms, pixel by pixel, from vectors computed here."""
    n_cells = 60.0
    detector, beam, basis = on_reflection()
    found = image(shape, n_cells, SceneOptions(cut=30.0))
    grid = np.stack(np.meshgrid(np.arange(61) + 0.5, np.arange(61) + 0.5), axis=-1).reshape(-1, 2)
    lab = detector[0].pixel_to_lab(grid)
    k = lab / np.linalg.norm(lab, axis=1, keepdims=True)
    d = (k - beam.s0) @ basis.T - [0, 4, 0]
    y2 = np.sum((n_cells * d) ** 2, axis=1)
    r = np.pi * np.sqrt(y2)
    with np.errstate(divide="ignore", invalid="ignore"):
        sinc = np.where(np.abs(d) > 1e-9, np.sin(np.pi * n_cells * d) / (n_cells * np.sin(np.pi * d)), 1.0).prod(axis=1)
        ball = np.where(r > 1e-4, 3 * (np.sin(r) - r * np.cos(r)) / r**3, 1.0)
    expected = {
        "gauss": np.exp(-2 * y2 / 0.63),
        "square": sinc**2,
        "round": (0.723601254558268 * ball) ** 2,
        "tophat": (y2 < 0.63**2).astype(float),
    }[shape]
    omega_p, _ = pixel_factors(detector, beam)
    expected = expected * omega_p
    scale = found.max() / expected.max()
    np.testing.assert_allclose(found.ravel(), scale * expected, atol=1e-7 * found.max())
    assert scale == pytest.approx(1e30 * 7.94079248e-30 * n_cells**6, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_windows_hold_all_that_a_shape_has(shape: Shape) -> None:
    detector, beam, basis = on_reflection()
    crystal = CrystalModel(basis[None], (40.0, 40.0, 40.0), shape=shape)
    whole, windows = (
        bragg_photons(detector, beam, crystal, table(), fluence_per_m2=1e30, cut=8.0, all_pixels=every).panels[0]
        for every in (True, False)
    )
    assert np.abs(whole - windows).max() <= 1e-12 * whole.max()


def test_the_sensor_absorbs_as_beer_and_lambert_say() -> None:
    """In all layers together, whatever their number, and at the angle of incidence."""
    mu, thickness = 4.0, 0.3
    bare = image("gauss", 60.0, SceneOptions())
    detector, beam, _ = on_reflection(thickness=thickness, mu=mu)
    omega_p, cosine = pixel_factors(detector, beam)
    absorbed, _ = pixel_factors(detector, beam, absorption=True)
    expected = 1 - np.exp(-mu * thickness / cosine)
    np.testing.assert_allclose(absorbed / omega_p, expected, rtol=1e-12)
    for layers in (1, 4):
        found = image("gauss", 60.0, SceneOptions(sensor_layers=layers), thickness=thickness, mu=mu)
        assert found.sum() / bare.sum() == pytest.approx(float(expected.mean()), rel=2e-3)


def test_parallax_moves_a_spot_outwards_as_far_as_the_reader_takes_it_back() -> None:
    """The centroid moves by the mean depth of absorption times the tangent: what geometry's correction undoes."""
    mu, thickness = 4.0, 0.5
    grid = np.arange(121) + 0.5
    centroids = []
    for options in (SceneOptions(), SceneOptions(sensor_layers=40)):
        photons = image("gauss", 200.0, options, n=121, thickness=thickness, mu=mu)
        centroids.append(photons.sum(axis=1) @ grid / photons.sum())
    moved_px = centroids[0] - centroids[1]  # slow runs down, the spot lies above the beam
    cosine = 1 - 2 * (4 / 24) ** 2
    path = thickness / cosine
    depth = (1 / mu - path * np.exp(-mu * path) / (1 - np.exp(-mu * path))) * cosine
    assert moved_px * PIXEL == pytest.approx(depth * np.tan(np.arccos(cosine)), rel=0.02)


def test_divergence_widens_a_spot_by_its_angle() -> None:
    """A crystal thick along the beam's turn reflects each direction: the profile is convolved."""
    fwhm = 2e-3
    divergence = Divergence.gaussian((fwhm, fwhm), 7)
    assert divergence.weights.sum() == pytest.approx(1)
    spread = np.sqrt(divergence.weights @ divergence.turns_rad**2)
    assert spread == pytest.approx(np.full(2, fwhm / (2 * np.sqrt(2 * np.log(2)))))
    narrow = image("gauss", 25.0, SceneOptions(), n=121)
    wide = image("gauss", 25.0, SceneOptions(divergence=divergence), n=121)
    still = image("gauss", 25.0, SceneOptions(divergence=Divergence(np.zeros((1, 2)), np.ones(1))), n=121)
    np.testing.assert_allclose(still, narrow, rtol=1e-12)
    assert wide.max() < narrow.max()
    assert np.count_nonzero(wide > wide.max() / 2) > np.count_nonzero(narrow > narrow.max() / 2)


def config(structure: Path, **changes: object) -> SimulateSfxConfig:
    return SimulateSfxConfig.model_validate({"structure": str(structure), "d_min_angstrom": 5.0, **changes})


def test_amplitudes_by_channel_are_those_computed_at_each_energy() -> None:
    """Selenium across its K edge: tables times functions of the energy against whole calculations."""
    edge = {"photon_energy_ev": 12658.0, "bandwidth_percent": 1.0, "channels": 21}
    chosen = config(DEMO, anomalous=True, pulse=edge)
    sample = read_sample(chosen)
    factors = sample.structure_factors
    assert isinstance(factors, ChannelStructureFactors)
    assert factors.elements == ("Se",)
    assert len(factors.tables) == 4
    energies = np.array([12600.0, 12658.0, 12700.0])
    found = np.tensordot(factors.bases(EV_ANGSTROM / energies), factors.tables, axes=([0], [0]))
    for table_at, energy in zip(found, energies, strict=True):
        hkl, F = structure_factors(DEMO, 5.0, EV_ANGSTROM / energy)
        at = tuple((hkl - factors.first_hkl).T)
        others = {name: abs(np.ptp(dispersion(name, energies))) for name in ("C", "N", "O", "S")}
        assert max(others.values()) < 0.02
        expected = np.abs(F) ** 2
        assert np.abs(table_at[at] - expected).max() <= 2e-3 * expected.max()
        assert np.corrcoef(table_at[at], expected)[0, 1] > 0.999999


def test_far_from_an_edge_no_element_changes() -> None:
    assert changing_elements(read_structure(DEMO), np.linspace(9000, 9010, 20)) == ()


def test_each_channel_is_scattered_with_its_own_amplitude() -> None:
    """Two channels, each with its own |F|^2, are the sum of two monochromatic images."""

    class TwoChannels:
        first_hkl = np.full(3, -10)
        tables = np.random.default_rng(2).exponential(1.0, (2, 21, 21, 21))

        def bases(self, wavelengths_angstrom: np.ndarray) -> np.ndarray:
            return np.stack([np.ones(len(wavelengths_angstrom)), wavelengths_angstrom**2])

    detector, _, basis = on_reflection()
    crystal = CrystalModel(basis[None], (8.0, 8.0, 8.0))
    wavelengths, weights = np.array([0.99, 1.01]), np.array([0.3, 0.7])
    both = Beam(1.0, spectrum=Spectrum(wavelengths, weights))
    found = bragg_photons(detector, both, crystal, TwoChannels(), fluence_per_m2=1e30).panels[0]
    expected = np.zeros_like(found)
    for wavelength, weight in zip(wavelengths, weights, strict=True):
        values = TwoChannels.tables[0] + wavelength**2 * TwoChannels.tables[1]
        single = StructureFactorTable(values, TwoChannels.first_hkl)
        beam = Beam(float(wavelength))
        expected += weight * bragg_photons(detector, beam, crystal, single, fluence_per_m2=1e30).panels[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * expected.max())


@pytest.mark.parametrize("anomalous", [False, True])
def test_an_mtz_gives_what_its_coordinates_gave(tmp_path: Path, anomalous: bool) -> None:
    from_pdb = read_sample(config(DEMO, anomalous=anomalous))
    path = tmp_path / "truth.mtz"
    write_true_amplitudes(
        path, from_pdb.hkl, from_pdb.amplitude, from_pdb.cell, from_pdb.space_group, anomalous=anomalous
    )
    from_mtz = read_sample(config(path))
    assert from_mtz.anomalous == anomalous
    assert from_mtz.cell == pytest.approx(from_pdb.cell, abs=1e-3)
    assert from_mtz.space_group.hm == from_pdb.space_group.hm
    one, other = from_pdb.structure_factors, from_mtz.structure_factors
    np.testing.assert_array_equal(one.first_hkl, other.first_hkl)
    np.testing.assert_allclose(other.tables[0], one.tables[0], rtol=1e-5, atol=1e-5 * one.tables[0].max())


def test_an_mtz_without_reflections_in_range_is_named(tmp_path: Path) -> None:
    sample = read_sample(config(DEMO))
    path = tmp_path / "low.mtz"
    low = np.argsort(np.abs(sample.hkl).sum(axis=1))[:1]
    write_true_amplitudes(
        path, sample.hkl[low], sample.amplitude[low], sample.cell, sample.space_group, anomalous=False
    )
    with pytest.raises(InputError, match=r"no reflections to 100 A: .*|low\.mtz: no reflections to 100 A"):
        read_sample(config(path, d_min_angstrom=100.0))


def test_a_detector_keeps_its_sensor_only_where_it_is_simulated() -> None:
    thin = simulated_detector(config(DEMO, detector={"sensor_thickness_mm": 0.45}))
    thick = simulated_detector(config(DEMO, detector={"sensor_thickness_mm": 0.45}, sensor_layers=3))
    assert not thin[0].parallax
    assert thick[0].parallax
    assert thick[0].thickness_mm == 0.45
    assert thick[0].mu_per_mm == pytest.approx(9.19, rel=0.05)  # silicon at 9.5 keV: 39.5 cm^2/g times 2.33 g/cm^3
