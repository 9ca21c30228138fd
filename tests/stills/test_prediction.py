"""Prediction against plain enumeration, and against what DIALS wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exafel.io.crystal import Crystal, orthogonalization, space_group
from exafel.io.expt import read_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.refl import read_refl
from exafel.stills.ewald import rotate_to_ewald
from exafel.stills.prediction import allowed_by_centring, detector_d_min, predict_reflections

BEAM = Beam(1.1)
DETECTOR = Detector((Panel("p", [-60.0, 60.0, -100.0], [1, 0, 0], [0, -1, 0], (0.1, 0.1), (1200, 1200)),))


def make_crystal(seed: int, *, hall: str = "P 1", half_deg: float = 0.1, domain: float = 1500.0) -> Crystal:
    rotation = Rotation.random(random_state=seed).as_matrix()
    basis = orthogonalization((41.0, 52.0, 63.0, 84.0, 95.0, 106.0)).T @ rotation.T
    return Crystal(basis, hall, half_deg, domain)


def all_indices(crystal: Crystal, d_min: float) -> np.ndarray:
    limits = [int(np.ceil(length / d_min)) + 1 for length in np.linalg.norm(crystal.real_space, axis=1)]
    axes = [np.arange(-n, n + 1) for n in limits]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return hkl[hkl.any(axis=1)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("half_deg", "domain"), [(0.1, 1500.0), (0.0, 300.0), (0.5, 1e7)])
def test_all_reflections_within_the_envelope_and_no_others(seed: int, half_deg: float, domain: float) -> None:
    crystal = make_crystal(seed, half_deg=half_deg, domain=domain)
    d_min = 2.4
    found = predict_reflections(crystal, DETECTOR, BEAM, d_min=d_min)
    hkl = all_indices(crystal, d_min)
    r = hkl @ crystal.A.T
    d = 1 / np.linalg.norm(r, axis=1)
    s1, delta_psi = rotate_to_ewald(r, BEAM.s0 * 1.1, 1 / 1.1)
    near = (d >= d_min) & (np.abs(delta_psi) <= np.radians(half_deg) + d / domain)
    panel, xy = DETECTOR.ray_to_pixel(s1[near])
    assert (panel >= 0).sum() > 20
    np.testing.assert_array_equal(found["miller_index"], hkl[near][panel >= 0])
    np.testing.assert_allclose(found["xyzcal.px"][:, :2], xy[panel >= 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["d"], d[near][panel >= 0], rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(found["s1"], axis=1), 1 / 1.1, rtol=1e-12)
    np.testing.assert_array_equal(found["entering"], found["delpsical.rad"] > 0)


def test_wider_envelopes_and_bandwidth_add_reflections() -> None:
    crystal = make_crystal(3)
    counts = [len(predict_reflections(crystal, DETECTOR, BEAM, d_min=2.4, envelope=scale)) for scale in (0.5, 1, 2)]
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] == pytest.approx(4 * counts[0], rel=0.2)
    assert len(predict_reflections(crystal, DETECTOR, BEAM, d_min=2.4, half_bandwidth=0.01)) > counts[1]
    perfect = replace(crystal, half_mosaicity_deg=None, domain_size_angstrom=None)
    assert len(predict_reflections(perfect, DETECTOR, BEAM, d_min=2.4)) == 0


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("I 2 2 2", lambda h, k, m: (h + k + m) % 2 == 0),
        ("C 1 2 1", lambda h, k, m: (h + k) % 2 == 0),
        ("F 2 3", lambda h, k, m: ((h + k) % 2 == 0) & ((k + m) % 2 == 0)),
        ("R 3:H", lambda h, k, m: (-h + k + m) % 3 == 0),
        ("P 43 21 2", lambda h, k, m: np.ones(len(h), dtype=bool)),  # screw axes are no centring
    ],
)
def test_centring(name: str, rule: object) -> None:
    hkl = np.random.default_rng(0).integers(-20, 21, size=(500, 3))
    np.testing.assert_array_equal(allowed_by_centring(hkl, space_group(name)), rule(*hkl.T))


def test_forbidden_reflections_are_not_predicted() -> None:
    primitive = predict_reflections(make_crystal(1), DETECTOR, BEAM, d_min=2.4)
    centred = predict_reflections(make_crystal(1, hall="I 1"), DETECTOR, BEAM, d_min=2.4)
    even = primitive["miller_index"].sum(axis=1) % 2 == 0
    np.testing.assert_array_equal(centred["miller_index"], primitive["miller_index"][even])


def test_detector_limit() -> None:
    corner = np.array([[-60.0, 60.0, -100.0]])
    expected = 1 / np.linalg.norm(BEAM.reciprocal(corner))
    assert detector_d_min(DETECTOR, BEAM) == pytest.approx(expected, rel=1e-3)
    assert predict_reflections(make_crystal(1), DETECTOR, BEAM)["d"].min() >= expected * 0.999


@pytest.mark.data
def test_positions_and_angles_are_those_of_dials(shared_data: Path) -> None:
    """What dials.stills_process 3.12 predicted from its models, we predict from its models."""
    folder = shared_data / "dials_thaumatin"
    peer = read_refl(folder / "idx-0000_integrated.refl")
    for number, experiment in enumerate(read_expt(folder / "idx-0000_integrated.expt")):
        assert experiment.crystal is not None
        rows = peer.select(peer["id"] == number)
        crystal = experiment.crystal
        assert crystal.half_mosaicity_deg is not None
        assert crystal.domain_size_angstrom is not None
        # DIALS' predictor counts half of the half mosaicity, and the numbers of the file mean what they mean to it.
        width = np.radians(crystal.half_mosaicity_deg) / 2 + rows["d"] / crystal.domain_size_angstrom
        assert 0.999 < np.max(np.abs(rows["delpsical.rad"]) / width) <= 1.0
        ours = predict_reflections(crystal, experiment.detector, experiment.beam)
        where = {tuple(hkl): row for row, hkl in enumerate(ours["miller_index"].tolist())}
        matched = np.array([where[tuple(hkl)] for hkl in rows["miller_index"].tolist()])
        np.testing.assert_allclose(ours["s1"][matched], rows["s1"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours["delpsical.rad"][matched], rows["delpsical.rad"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours["d"][matched], rows["d"], rtol=1e-12)
        np.testing.assert_allclose(ours["xyzcal.px"][matched, :2], rows["xyzcal.px"][:, :2], rtol=0, atol=1e-3)
