from __future__ import annotations

import numpy as np
import pytest

from exafel.io.geometry import Beam
from exafel.merging.polarization import polarization_factor

NORMAL = np.array([0.0, 1.0, 0.0])


def beam(fraction: float) -> Beam:
    return Beam(1.0, polarization_fraction=fraction, polarization_normal=NORMAL)


def directions(n: int = 200) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(n, 3))


def test_unpolarized_light_has_the_lorentz_thomson_factor() -> None:
    s1 = directions()
    cosine = -s1[:, 2] / np.linalg.norm(s1, axis=1)
    assert polarization_factor(s1, beam(0.5)) == pytest.approx((1 + cosine**2) / 2)


def test_fully_polarized_light_scatters_as_a_dipole() -> None:
    """Independent of Kahn's angles: the intensity of a dipole along E is 1 - (direction . E)^2."""
    s1 = directions()
    unit = s1 / np.linalg.norm(s1, axis=1, keepdims=True)
    field = np.array([1.0, 0.0, 0.0])  # in the plane of polarization, across the beam
    assert polarization_factor(s1, beam(1.0)) == pytest.approx(1 - (unit @ field) ** 2)


def test_a_mixture_is_the_sum_of_its_parts_and_a_given_fraction_wins() -> None:
    s1 = directions()
    mixed = 0.9 * polarization_factor(s1, beam(1.0)) + 0.1 * polarization_factor(s1, beam(0.0))
    assert polarization_factor(s1, beam(0.9)) == pytest.approx(mixed)
    assert polarization_factor(s1, beam(0.2), fraction=0.9) == pytest.approx(mixed)


def test_the_length_of_s1_and_the_direct_beam_do_no_harm() -> None:
    s1 = np.array([[0.0, 0.0, -3.0], [0.0, 0.0, -1e-3]])
    assert polarization_factor(s1, beam(0.99)) == pytest.approx([1.0, 1.0])


def test_it_turns_with_the_beam() -> None:
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    turned = Beam(1.0, direction=turn @ [0, 0, 1.0], polarization_fraction=0.95, polarization_normal=turn @ NORMAL)
    s1 = directions()
    assert polarization_factor(s1 @ turn.T, turned) == pytest.approx(polarization_factor(s1, beam(0.95)))
