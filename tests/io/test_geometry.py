"""Panels, beams, absorption: closed forms and both directions of every mapping."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.errors import InputError
from exafel.io.attenuation import mu_per_mm, sensor_material
from exafel.io.geometry import EV_ANGSTROM, Beam, Panel, Spectrum, rotation_matrix

angles = st.floats(-0.6, 0.6)


def panel(turn: np.ndarray, *, parallax: bool) -> Panel:
    return Panel(
        "p",
        turn @ [-40.0, 30.0, -100.0],
        turn @ [1.0, 0.0, 0.0],
        turn @ [0.0, -1.0, 0.0],
        (0.1, 0.12),
        (800, 500),
        thickness_mm=0.45,
        mu_per_mm=3.8,
        parallax=parallax,
    )


@given(angles, angles, st.floats(0, 800), st.floats(0, 500))
def test_without_parallax_rays_come_back_to_their_pixels(about_x, about_y, fast, slow):
    turn = rotation_matrix(np.array([1.0, 0, 0]), about_x) @ rotation_matrix(np.array([0, 1.0, 0]), about_y)
    plain = panel(turn, parallax=False)
    lab = plain.pixel_to_lab(np.array([[fast, slow]]))
    np.testing.assert_allclose(lab[0], turn @ [-40 + 0.1 * fast, 30 - 0.12 * slow, -100], rtol=0, atol=1e-10)
    pixel, inside = plain.ray_to_pixel(7.0 * lab)
    np.testing.assert_allclose(pixel[0], [fast, slow], rtol=0, atol=1e-8)
    if 0.01 < fast < 799.99 and 0.01 < slow < 499.99:
        assert inside[0]


@given(st.floats(0, 800), st.floats(0, 500))
def test_with_parallax_the_shift_is_the_mean_depth_of_absorption(fast, slow):
    thick = panel(np.eye(3), parallax=True)
    ray = np.array([-40 + 0.1 * fast, 30 - 0.12 * slow, -100.0])
    pixel, _ = thick.ray_to_pixel(ray[None])
    # By numerical integration: the mean depth along the ray at which a photon is absorbed, those that pass at zero.
    length = 0.45 * np.linalg.norm(ray) / 100
    edges = np.linspace(0, length, 20001)
    middle = (edges[1:] + edges[:-1]) / 2
    depth = np.sum(middle * 3.8 * np.exp(-3.8 * middle)) * (edges[1] - edges[0])
    unit = ray / np.linalg.norm(ray)
    expected = [fast + depth * unit[0] / 0.1, slow - depth * unit[1] / 0.12]
    np.testing.assert_allclose(pixel[0], expected, rtol=0, atol=1e-5)
    # The way back takes the depth at the pixel instead of at the ray, as DIALS does: a difference of second order.
    np.testing.assert_allclose(thick.pixel_to_lab(pixel)[0], ray, rtol=0, atol=2e-3)


def test_rays_away_from_the_panel_meet_it_nowhere():
    pixel, inside = panel(np.eye(3), parallax=False).ray_to_pixel(np.array([[0, 0, 1.0], [1, 0, 0], [0, 0, -1]]))
    assert np.isnan(pixel[:2]).all()
    np.testing.assert_array_equal(inside, [False, False, True])
    np.testing.assert_allclose(pixel[2], [400, 250])


def test_trusted_values_and_rectangles():
    small = Panel(
        "s", np.zeros(3), np.eye(3)[0], np.eye(3)[1], (1, 1), (4, 3), (0, 9), mask_rectangles=((-1, 1, 2, 9),)
    )
    data = np.array([[-1, 0, 9, 10], [5, 5, 5, 5], [5, 5, 5, 5]])
    expected = [[False, True, True, False], [False, False, True, True], [False, False, True, True]]
    np.testing.assert_array_equal(small.trusted_mask(data), expected)


def test_a_detector_of_panels(models):
    detector = models.tilted_detector(3, parallax=False)
    panels = np.array([2, 0, 1, 2])
    pixels = np.array([[1.5, 2.5], [3, 4], [10, 8], [0.5, 0.5]])
    lab = detector.pixel_to_lab(panels, pixels)
    np.testing.assert_allclose(lab[3], detector[2].pixel_to_lab(pixels[3:])[0])
    hit, xy = detector.ray_to_pixel(lab)
    np.testing.assert_array_equal(hit, panels)
    np.testing.assert_allclose(xy, pixels, atol=1e-9)
    assert detector.fingerprint() == models.tilted_detector(3, parallax=False).fingerprint()
    assert detector.fingerprint() != models.tilted_detector(3).fingerprint()
    assert detector.n_pixels == 3 * 12 * 9


def test_beams():
    beam = Beam(1.25)
    np.testing.assert_allclose(beam.s0, [0, 0, -0.8])
    np.testing.assert_allclose(beam.reciprocal(np.array([[0, 0, -9.0], [0, 7, 0]])), [[0, 0, 0], [0, 0.8, 0.8]])
    spectrum = Spectrum(EV_ANGSTROM / np.array([9000.0, 9100.0]), np.array([1.0, 3.0]))
    assert EV_ANGSTROM / spectrum.mean_wavelength() == pytest.approx(9075)


@pytest.mark.parametrize(
    ("material", "kev", "mu_over_rho", "density"),
    [("Si", 10, 33.89, 2.33), ("Si", 8, 64.68, 2.33), ("CdTe", 20, 21.44, 6.2), ("GaAs", 15, 92.2, 5.32)],
)
def test_absorption_at_tabulated_energies(material, kev, mu_over_rho, density):
    assert mu_per_mm(material, EV_ANGSTROM / (1000 * kev)) == pytest.approx(mu_over_rho * density / 10, rel=1e-9)


@pytest.mark.parametrize("kev", [5.5, 7, 9.5, 12.3, 17, 23])
@pytest.mark.parametrize(("material", "elements"), [("Si", "Si"), ("CdTe", "Cd Te"), ("GaAs", "Ga As")])
def test_absorption_follows_the_anomalous_scattering_of_the_elements(material, elements, kev):
    # Optical theorem with f'' by Cromer and Liberman, an independent calculation; scattering adds to it
    # (up to 0.4 cm^2/g by Hubbell and Seltzer's own tables of it).
    atoms = [gemmi.Element(name) for name in elements.split()]
    density = {"Si": 2.33, "CdTe": 6.2, "GaAs": 5.32}[material]
    per_mm3 = density / sum(atom.weight for atom in atoms) * 6.02214e23 / 1000
    wavelength = EV_ANGSTROM / (1000 * kev)
    absorbed = sum(gemmi.cromer_liberman(z=atom.atomic_number, energy=1000 * kev)[1] for atom in atoms)
    expected = 2 * 2.8179403e-12 * wavelength * 1e-7 * per_mm3 * absorbed
    assert 0.97 * expected < mu_per_mm(material, wavelength) < 1.09 * expected + 0.4 * density / 10


def test_absorption_at_edges_and_beyond_the_table():
    below, above = (mu_per_mm("GaAs", EV_ANGSTROM / ev) for ev in (10367.0, 10367.2))
    assert above / below == pytest.approx(126 / 34.25, rel=1e-3)
    with pytest.raises(InputError, match="unknown sensor material 'Se'"):
        mu_per_mm("Se", 1.0)
    for wavelength in (0.0, -1.0, 1e-9, 99.0, float("nan")):
        with pytest.raises(InputError, match="no attenuation coefficient"):
            mu_per_mm("Si", wavelength)
    assert [sensor_material(name) for name in ("Silicon", " si ", "CDTE", "Ge")] == ["Si", "Si", "CdTe", "Ge"]


def test_rotation_matrices_turn_the_right_way():
    np.testing.assert_allclose(rotation_matrix(np.array([0, 0, 1.0]), np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
