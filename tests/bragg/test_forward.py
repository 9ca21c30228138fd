"""The forward model against nanoBragg's own images, closed forms, and itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.bragg.forward import bragg_photons, pixel_factors
from exafel.bragg.scene import CLASSICAL_ELECTRON_RADIUS_SQUARED_M2, CrystalModel
from exafel.bragg.structure_factors import StructureFactorTable, structure_factor_table
from exafel.io.crystal import orthogonalization
from exafel.io.geometry import Beam, Detector, Panel, Spectrum

NANOBRAGG_EV_ANGSTROM = 12398.41984  # the digits that the parity images were made with
GAUSS_WIDTH = 0.63


def square_detector(n: int = 64, pixel_mm: float = 0.6, distance_mm: float = 60.0, panels: int = 1) -> Detector:
    side = n * pixel_mm
    origin = np.array([-side * panels / 2, side / 2, -distance_mm])
    step = np.array([side, 0.0, 0.0])
    fast, slow = np.array([1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])
    return Detector(
        tuple(Panel(f"p{i}", origin + i * step, fast, slow, (pixel_mm, pixel_mm), (n, n)) for i in range(panels))
    )


def white_table(reach: int = 40, f_squared: float = 1.0) -> StructureFactorTable:
    table = np.full((2 * reach + 1,) * 3, f_squared)
    table[reach, reach, reach] = 0
    return StructureFactorTable(table, np.full(3, -reach))


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def basis(seed: int, cell: tuple[float, ...] = (42.0, 50.0, 61.0, 90.0, 95.0, 100.0)) -> np.ndarray:
    return (rotation(seed) @ orthogonalization(cell)).T


def spectrum_beam(n: int = 20, percent: float = 1.0) -> Beam:
    wavelengths = np.linspace(1.3 * (1 - percent / 200), 1.3 * (1 + percent / 200), n)
    weights = 1 + np.cos(np.arange(n)) ** 2
    return Beam(1.3, polarization_fraction=0.9, spectrum=Spectrum(wavelengths, weights))


@pytest.mark.data
@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        ("mono_gauss", 1e-9),
        ("mono_gauss_unpolarized", 1e-9),
        ("spectrum_gauss", 1e-9),
        ("mosaic_gauss", 1e-9),
        ("mono_square", 1e-9),
        # nanoBragg takes one subpixel's solid angle and polarization for the whole pixel
        ("oversample3_gauss", 2e-3),
        ("all_gauss", 2e-3),
    ],
)
@pytest.mark.parametrize("all_pixels", [True, False])
def test_it_reproduces_nanobragg(shared_data: Path, case: str, tolerance: float, all_pixels: bool) -> None:
    folder = shared_data / "nanobragg_parity"
    given_ = json.loads((folder / f"{case}.json").read_text())
    archive = np.load(folder / f"{case}.npz")
    expected = archive[archive.files[0]]
    mtz = gemmi.read_mtz_file(str(folder / "lysozyme_fcalc.mtz"))
    hkl = np.array(mtz.make_miller_array())
    mates = [mtz.column_with_label(name).array for name in ("F(+)", "F(-)")]
    known = np.isfinite(np.concatenate(mates))
    table = structure_factor_table(
        np.concatenate([hkl, -hkl])[known], np.concatenate(mates)[known], mtz.spacegroup, anomalous=True
    )
    frame = given_["detector"]
    pixel = (frame["pixel_mm"], frame["pixel_mm"])
    detector = Detector((Panel("p", frame["origin_mm"], frame["fast"], frame["slow"], pixel, tuple(frame["size"])),))
    wavelengths = NANOBRAGG_EV_ANGSTROM / np.array(given_["energies_ev"])
    beam = Beam(
        given_["mean_wavelength"],
        polarization_fraction=(1 + given_["polarization"]) / 2,
        spectrum=Spectrum(wavelengths, np.array(given_["weights"])),
    )
    columns = np.array(given_["U"]) @ np.array(given_["orthogonalization"]).reshape(3, 3)
    blocks = np.array([(np.array(block) @ columns).T for block in given_["mosaic_Umats"]])
    image = bragg_photons(
        detector,
        beam,
        CrystalModel(blocks, tuple(given_["Ncells_abc"]), scale=len(wavelengths), shape=given_["shape"].lower()),
        table,
        fluence_per_m2=given_["fluence_per_m2"],
        oversample=given_["oversample"],
        cut=35,
        all_pixels=all_pixels,
    )
    assert np.abs(image.panels[0] - expected).max() <= tolerance * expected.max()


def test_one_pixel_by_hand() -> None:
    """A pixel exactly on a reflection of a cubic crystal, every factor written out."""
    wavelength, a, n_cells, f2, fluence = 1.0, 30.0, 10.0, 400.0, 1e24
    # A crystal turned so that (0, 4, 0) fulfils Bragg's law, scattering into the vertical plane.
    sine = 4 * wavelength / (2 * a)
    two_theta = 2 * np.arcsin(sine)
    s1 = np.array([0.0, np.sin(two_theta), -np.cos(two_theta)]) / wavelength
    s0 = np.array([0.0, 0.0, -1.0]) / wavelength
    b = (s1 - s0) / np.linalg.norm(s1 - s0) * a
    a_vector = np.array([a, 0.0, 0.0])
    block = np.array([a_vector, b, np.cross(a_vector, b) / a])
    distance, pixel = 100.0, 0.1
    position = s1 / abs(s1[2]) * distance
    origin = np.array([-0.5 * pixel, position[1] + 0.5 * pixel, -distance])
    panel = Panel("p", origin, np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), (pixel, pixel), (1, 1))
    image = bragg_photons(
        Detector((panel,)),
        Beam(wavelength, polarization_fraction=1.0),
        CrystalModel(block[None], (n_cells, n_cells, n_cells), scale=3.0),
        white_table(6, f2),
        fluence_per_m2=fluence,
    )
    length = np.linalg.norm(position)
    omega = pixel**2 * distance / length**3
    polarization = 1.0  # scattering across the plane of polarization loses nothing
    expected = fluence * CLASSICAL_ELECTRON_RADIUS_SQUARED_M2 * omega * polarization * 3.0 * f2 * n_cells**6
    assert image.panels[0][0, 0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("n_cells", "n_panels"), [((4.0, 5.0, 6.0), 1), ((12.0, 9.0, 15.0), 2), ((40.0, 40.0, 40.0), 1)]
)
def test_windows_and_whole_image_agree(n_cells: tuple[float, float, float], n_panels: int) -> None:
    detector = square_detector(panels=n_panels)
    blocks = np.array([basis(3), basis(3) @ rotation_about_z(0.003)])
    arguments = (detector, spectrum_beam(), CrystalModel(blocks, n_cells), white_table())
    cut = 30.0
    whole = bragg_photons(*arguments, fluence_per_m2=1e20, cut=cut, all_pixels=True, oversample=2)
    windows = bragg_photons(*arguments, fluence_per_m2=1e20, cut=cut, oversample=2)
    assert len(windows.panels) == n_panels
    largest = max(panel.max() for panel in whole.panels)
    assert largest > 0
    for one, other in zip(whole.panels, windows.panels, strict=True):
        assert np.abs(one - other).max() <= 1e-11 * largest
    assert windows.n_terms <= whole.n_terms


def rotation_about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.floats(3, 50), percent=st.floats(0.05, 5), channels=st.integers(1, 30))
def test_windows_lose_nothing(seed: int, n: float, percent: float, channels: int) -> None:
    """Whatever the crystal and the bandwidth, the windows hold all that the whole image has."""
    detector = square_detector(n=32, pixel_mm=1.2)
    beam = spectrum_beam(channels, percent)
    arguments = (detector, beam, CrystalModel(basis(seed)[None], (n, 1.5 * n, 0.8 * n)), white_table())
    whole = bragg_photons(*arguments, fluence_per_m2=1e20, all_pixels=True).panels[0]
    windows = bragg_photons(*arguments, fluence_per_m2=1e20).panels[0]
    assert np.abs(whole - windows).max() <= 1e-8 * whole.max(initial=1e-300)


def test_pixel_factors_are_the_formula() -> None:
    detector = square_detector(n=8, pixel_mm=5.0)
    beam = Beam(1.3, polarization_fraction=0.95)
    omega_p, cosine = pixel_factors(detector, beam)
    grid = np.array([(f + 0.5, s + 0.5) for s in range(8) for f in range(8)])
    lab = detector[0].pixel_to_lab(grid)
    length = np.linalg.norm(lab, axis=1)
    two_theta = np.arccos(-lab[:, 2] / length)
    psi = np.arctan2(lab[:, 1], lab[:, 0])
    kahn = 2 * 0.95 - 1
    polarization = 0.5 * (1 + np.cos(two_theta) ** 2 - kahn * np.cos(2 * psi) * np.sin(two_theta) ** 2)
    np.testing.assert_allclose(omega_p, 25.0 * 60.0 / length**3 * polarization, rtol=1e-12)
    np.testing.assert_allclose(cosine, np.cos(two_theta), rtol=1e-12)


def test_every_instruction_set_gives_the_same_bits() -> None:
    program = (
        "import sys, numpy as np\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_forward import *\n"
        "a = (square_detector(), spectrum_beam(), CrystalModel(basis(3)[None], (9.0, 9.0, 9.0)), white_table(30))\n"
        "for whole in (True, False):\n"
        "    image = bragg_photons(*a, fluence_per_m2=1e20, all_pixels=whole).panels[0]\n"
        "    sys.stdout.write(image.tobytes().hex()[:200000] + str(image.sum().hex()))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            env={**os.environ, "EXAFEL_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for isa in ("baseline", "avx2", "avx512")
    }
    assert len(outputs) == 1
