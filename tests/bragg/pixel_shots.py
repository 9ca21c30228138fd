"""A small crystal, its structure factors, and images of it with known truth: what tests of stages 1 and 2 refine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from exafel.bragg.forward import bragg_photons
from exafel.bragg.reflection_set import ReflectionSet, reflection_set
from exafel.bragg.scene import CrystalModel
from exafel.io.crystal import Crystal, orthogonalization, space_group
from exafel.io.geometry import Beam, Detector, Panel, Spectrum

CELL = (42.0, 42.0, 60.0, 90.0, 90.0, 90.0)
GROUP = space_group("P43212")
N_CELLS = (18.0, 18.0, 14.0)
BACKGROUND = 6.0
BEAM_SIZE_UM = 3.0


def detector(n: int = 300, panels: int = 1) -> Detector:
    side = n * 0.2
    origin = np.array([-side * panels / 2, side / 2, -70.0])
    return Detector(
        tuple(
            Panel(f"p{i}", origin + np.array([i * side, 0, 0]), [1, 0, 0], [0, -1, 0], (0.2, 0.2), (n, n), (-1, 1e6))
            for i in range(panels)
        )
    )


def beam(n: int = 12) -> Beam:
    wavelengths = np.linspace(1.294, 1.306, n)
    weights = 1 + 0.8 * np.cos(1.7 * np.arange(n))
    return Beam(1.3, flux=1e12, polarization_fraction=0.999, spectrum=Spectrum(wavelengths, weights))


def reflections(d_min: float = 2.6) -> ReflectionSet:
    return reflection_set(CELL, GROUP, d_min)


def amplitudes(known: ReflectionSet, seed: int = 3, anomalous: float = 0.05) -> np.ndarray:
    """Wilson-like amplitudes whose Bijvoet mates differ by a part of them."""
    rng = np.random.default_rng(seed)
    F = 200 * np.sqrt(rng.gamma(2.0, 0.5, len(known))) + 20
    F = 0.5 * (F + F[known.mate])
    shift = rng.normal(0, anomalous, len(known))
    return np.asarray(F * (1 + 0.5 * (shift - shift[known.mate])))


def crystal(seed: int, cell: tuple[float, ...] = CELL) -> Crystal:
    return Crystal((Rotation.random(random_state=seed).as_matrix() @ orthogonalization(cell)).T, str(GROUP.hall))


def turned(true: Crystal, angle_deg: float, seed: int, stretch: float = 1.0) -> Crystal:
    """The crystal turned about a random axis, and its cell stretched."""
    axis = np.random.default_rng(seed).standard_normal(3)
    turn = Rotation.from_rotvec(np.radians(angle_deg) * axis / np.linalg.norm(axis)).as_matrix()
    return replace(true, real_space=stretch * true.real_space @ turn.T)


def photons(
    true: Crystal, known: ReflectionSet, F: np.ndarray, geometry: Detector, light: Beam, scale: float = 400.0
) -> np.ndarray:
    model = CrystalModel(true.real_space[None], N_CELLS, scale)
    fluence = light.flux / (BEAM_SIZE_UM * 1e-6) ** 2
    image = bragg_photons(geometry, light, model, known.table(F), fluence_per_m2=fluence, cut=20.0)
    return np.array(image.panels)


def noisy(expected: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(expected + BACKGROUND).astype(np.int32)
