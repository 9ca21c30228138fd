"""Derivatives from dual numbers against central differences, and structure-factor coefficients against images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from exafel.bragg.bases import crystal_bases, mosaic_axes
from exafel.bragg.forward import VARIABLES, bragg_gradients, structure_factor_coefficients
from exafel.bragg.scene import CrystalModel, SceneArrays, SceneOptions, Shape, scene_arrays
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.io.geometry import Beam, Detector, Panel, Spectrum

N = 48
TABLE = StructureFactorTable(np.random.default_rng(1).exponential(1e4, (61, 61, 61)), np.full(3, -30))
FLAT = StructureFactorTable(np.full((61, 61, 61), 1e4), np.full(3, -30))
"""For shapes with long tails, which jump where another reflection, of another amplitude, becomes the nearest."""


@dataclass(frozen=True)
class Model:
    """All that photons are differentiated by, with steps at which central differences are best."""

    turns: np.ndarray = field(default_factory=lambda: np.zeros(3))
    cell: np.ndarray = field(default_factory=lambda: np.array([42.0, 50.0, 61.0, 88.0, 95.0, 100.0]))
    spread: np.ndarray = field(default_factory=lambda: np.array([0.002, 0.003, 0.001]))
    n_cells: np.ndarray = field(default_factory=lambda: np.array([7.0, 8.0, 9.0]))
    shift_mm: np.ndarray = field(default_factory=lambda: np.zeros(1))
    wavelengths: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0]))
    shape: Shape = "gauss"

    def scene(self) -> SceneArrays:
        turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
        orientation = turn * np.linalg.det(turn)
        blocks, jacobian = crystal_bases(
            orientation, self.cell, mosaic_axes(3), turns_rad=self.turns, spread_rad=self.spread
        )
        origin = [-19.0, 18.0, -60.0 - self.shift_mm[0]]
        panel = Panel("p", origin, [1, 0, 0], [0, -1, 0], (0.8, 0.8), (N, N), thickness_mm=0.3, mu_per_mm=4.0)
        beam = Beam(1.3, spectrum=Spectrum(np.linspace(1.295, 1.305, 25), 1 + np.cos(np.arange(25.0)) ** 2))
        n_a, n_b, n_c = self.n_cells
        crystal = CrystalModel(blocks, (n_a, n_b, n_c), shape=self.shape, jacobian=jacobian)
        options = SceneOptions(oversample=2, sensor_layers=2, cut=40.0)
        offset, scale = self.wavelengths
        table = TABLE if self.shape == "gauss" else FLAT
        return scene_arrays(Detector((panel,)), beam, crystal, table, 1e24, options, (offset, scale))

    def photons(self) -> np.ndarray:
        image = np.zeros(N * N)
        self.scene().host.add_photons(image, True, False, 1)
        return image


STEPS = [("turns", 1e-5)] * 3 + [("cell", 1e-4)] * 6 + [("spread", 1e-5)] * 3
STEPS += [("n_cells", 1e-3)] * 3 + [("shift_mm", 1e-3)] + [("wavelengths", 1e-6)] * 2
PIXELS = np.array([(0, fast, slow) for slow in range(N) for fast in range(N)], dtype=np.int32)


def numerical(model: Model, variable: int) -> np.ndarray:
    """Central difference of fourth order."""
    name, step = STEPS[variable]
    index = [other for other, _ in STEPS[:variable]].count(name)

    def at(distance: float) -> np.ndarray:
        values = getattr(model, name).copy()
        values[index] += distance
        return replace(model, **{name: values}).photons()

    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


# Shapes differ by the lattice factor alone: for the others one variable of each kind is enough.
CASES: list[tuple[Shape, int]] = [("gauss", variable) for variable in range(len(VARIABLES))]
CASES += [(shape, variable) for shape in ("square", "round") for variable in (0, 3, 9, 12, 15, 17)]


@pytest.mark.parametrize(("shape", "variable"), CASES, ids=[f"{shape}-{VARIABLES[k]}" for shape, k in CASES])
def test_derivatives_are_those_of_central_differences(shape: Shape, variable: int) -> None:
    model = Model(shape=shape)
    found = bragg_gradients(model.scene(), PIXELS)
    expected = numerical(model, variable)
    assert np.abs(expected).max() > 0
    error = np.abs(found.derivatives[variable] - expected)
    # Half way between two reflections the tail of a round block has a kink, where differences mean nothing.
    worst = np.quantile(error, 0.9) if shape == "round" else error.max()
    assert worst <= 1e-6 * np.abs(expected).max()


def test_photons_are_those_of_the_image() -> None:
    model = Model()
    found = bragg_gradients(model.scene(), PIXELS[::-1])
    expected = model.photons()
    np.testing.assert_allclose(found.photons[::-1], expected, rtol=1e-9, atol=1e-14 * expected.max())


def test_single_precision_is_good_to_a_millionth() -> None:
    scene = Model().scene()
    double, single = (bragg_gradients(scene, PIXELS, single=precision) for precision in (False, True))
    assert np.abs(single.photons - double.photons).max() <= 1e-6 * double.photons.max()
    largest = np.abs(double.derivatives).max(axis=1, keepdims=True)
    assert (np.abs(single.derivatives - double.derivatives) / largest).max() <= 1e-6


def test_threads_change_nothing() -> None:
    scene = Model().scene()
    one, two = (bragg_gradients(scene, np.tile(PIXELS, (2, 1)), threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one.derivatives, two.derivatives)
    images = np.zeros((2, N * N))
    for image, threads in zip(images, (1, 3), strict=True):
        scene.host.add_photons(image, False, False, threads)
    np.testing.assert_array_equal(images[0], images[1])


def test_coefficients_times_squared_structure_factors_are_photons() -> None:
    scene = Model().scene()
    coefficients = structure_factor_coefficients(scene, PIXELS, room=1)
    assert coefficients.has_sorted_indices
    photons = Model().photons()
    np.testing.assert_allclose(coefficients @ TABLE.f_squared.ravel(), photons, atol=1e-14 * photons.max())
    # d photons / d F_j = 2 F_j K_j, so changing one structure factor moves just its pixels, by as much.
    column = int(coefficients.indices[coefficients.data.argmax()])
    changed = TABLE.f_squared.copy()
    changed.ravel()[column] = 0
    values = np.zeros(N * N)
    replace(scene, table=changed[None], _host=[]).host.add_photons(values, True, False, 1)
    lost = coefficients[:, [column]].toarray()[:, 0] * TABLE.f_squared.ravel()[column]
    np.testing.assert_allclose(photons - values, lost, atol=1e-12 * lost.max())


def test_pixels_off_the_detector_and_scenes_without_jacobians_are_refused() -> None:
    scene = Model().scene()
    with pytest.raises(ValueError, match="not on its panel"):
        bragg_gradients(scene, np.array([[0, N, 0]], dtype=np.int32))
    with pytest.raises(ValueError, match="panel is not there"):
        bragg_gradients(scene, np.array([[1, 0, 0]], dtype=np.int32))
    bare = replace(scene, jacobian=np.empty((0, 3, 3, 12)), _host=[])
    with pytest.raises(ValueError, match="without Jacobians"):
        bragg_gradients(bare, PIXELS)


def test_mosaic_axes_are_even() -> None:
    axes = mosaic_axes(101)
    np.testing.assert_allclose(axes.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(np.sqrt(np.mean(axes**2, axis=0)), 1)
    assert np.abs(np.corrcoef(axes.T) - np.eye(3)).max() < 0.2
    np.testing.assert_array_equal(mosaic_axes(1), np.zeros((1, 3)))
