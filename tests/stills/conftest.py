"""Synthetic shots with known truth for the tests of indexing and refinement."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exafel.arrays import FloatArray, IntArray
from exafel.io.crystal import orthogonalization
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import ReflectionTable
from exafel.stills.cell_symmetry import lattice_points


def flat_detector(distance_mm: float = 120.0, size: int = 2000, pixel_mm: float = 0.1, gap: int = 20) -> Detector:
    """Four flat panels around the beam, a little tilted, with a gap between them."""
    panels = []
    for number, (right, up) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        half = (size + gap) / 2 * pixel_mm
        origin = np.array([-half + right * half, half - up * half, -distance_mm])
        origin += np.array([gap / 2 * pixel_mm * right, -gap / 2 * pixel_mm * up, 0.2 * number])
        tilt = Rotation.from_rotvec([0.002 * number, -0.001, 0.003]).as_matrix()
        panels.append(
            Panel(
                name=f"p{number}",
                origin_mm=origin,
                fast_axis=tilt @ [1.0, 0.0, 0.0],
                slow_axis=tilt @ [0.0, -1.0, 0.0],
                pixel_size_mm=(pixel_mm, pixel_mm),
                image_size=(size // 2, size // 2),
            )
        )
    return Detector(tuple(panels))


def random_setting(cell: tuple[float, ...], rng: np.random.Generator) -> FloatArray:
    """Setting matrix of a random orientation."""
    rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    return np.asarray(rotation @ np.linalg.inv(orthogonalization(cell)).T)


@dataclass
class Shot:
    """A simulated shot: spots, and what they come from; foreign spots have index (0, 0, 0)."""

    spots: ReflectionTable
    hkl: IntArray
    detector: Detector
    beam: Beam


def simulate_shot(
    settings: list[FloatArray],
    rng: np.random.Generator,
    *,
    d_min: float = 2.5,
    sigma_rlp: float = 3e-4,
    sigma_px: float = 0.2,
    bandwidth: float = 0.0,
    n_foreign: int = 0,
    wavelength: float = 1.3,
    hall: str = "P 1",
) -> Shot:
    """Spots of lattices on a still: reflections within a normal law of their distance from the Ewald sphere.

    Every reflection draws a wavelength from a normal law of relative width `bandwidth`.
    """
    detector, beam = flat_detector(), Beam(wavelength)
    s0 = np.array([0.0, 0.0, -1.0])
    positions, panels, indices, intensities = [], [], [], []
    for A in settings:
        hkl = _indices(A, d_min)
        hkl = hkl[lattice_points(hkl.astype(np.float64), hall)]
        r = hkl @ A.T
        k = (1.0 + bandwidth * rng.normal(size=len(hkl))) / wavelength
        ray = k[:, None] * s0 + r
        distance = np.linalg.norm(ray, axis=1) - k
        weight = np.exp(-0.5 * (distance / sigma_rlp) ** 2)
        keep = rng.random(len(hkl)) < weight
        panel, xy = detector.ray_to_pixel(ray[keep])
        on = panel >= 0
        positions.append(xy[on] + sigma_px * rng.normal(size=(on.sum(), 2)))
        panels.append(panel[on])
        indices.append(hkl[keep][on])
        intensities.append(1000.0 * rng.exponential(size=on.sum()) + 100.0)
    if n_foreign:
        panel = rng.integers(0, len(detector), n_foreign)
        positions.append(rng.random((n_foreign, 2)) * detector[0].image_size)
        panels.append(panel)
        indices.append(np.zeros((n_foreign, 3), dtype=np.int64))
        intensities.append(np.full(n_foreign, 500.0))
    xy, hkl = np.concatenate(positions), np.concatenate(indices)
    order = rng.permutation(len(xy))
    spots = ReflectionTable(
        {
            "xyzobs.px.value": np.column_stack([xy, np.zeros(len(xy))])[order],
            "xyzobs.px.variance": np.full((len(order), 3), sigma_px**2),
            "panel": np.concatenate(panels)[order].astype(np.uint64),
            "intensity.sum.value": np.concatenate(intensities)[order],
            "flags": np.full(len(order), 32, dtype=np.uint64),
        }
    )
    return Shot(spots, hkl[order], detector, beam)


def _indices(A: FloatArray, d_min: float) -> IntArray:
    lengths = np.linalg.norm(np.linalg.inv(A), axis=1)
    axes = [np.arange(-int(n), int(n) + 1) for n in np.ceil(lengths / d_min)]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    size = np.linalg.norm(hkl @ A.T, axis=1)
    return hkl[(size > 0) & (size < 1 / d_min)]


@pytest.fixture(scope="session")
def synthetic() -> SimpleNamespace:
    """Functions that make synthetic shots."""
    return SimpleNamespace(detector=flat_detector, setting=random_setting, shot=simulate_shot)
