"""Experiments as .expt files: shared models, hierarchies, damage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.crystal import Crystal
from exafel.io.experiment import Experiment, ExperimentList, ImageRef, experiment_identifier
from exafel.io.expt import read_expt, write_expt
from exafel.io.geometry import Beam


def crystal(seed: int) -> Crystal:
    basis = np.diag([79.0, 79.0, 38.0]) + np.random.default_rng(seed).normal(scale=0.1, size=(3, 3))
    return Crystal(basis, "P 4nw 2abw", half_mosaicity_deg=0.05, domain_size_angstrom=1500.0)


@pytest.fixture
def experiments(models) -> ExperimentList:
    """Three shots, the last with two lattices; two of the shots have one wavelength."""
    detector = models.tilted_detector(3)
    beams = [Beam(1.3), Beam(1.3), Beam(1.301, flux=1e12, polarization_fraction=0.7)]
    listed = ExperimentList()
    for shot, lattice in ((0, 0), (1, 0), (2, 0), (2, 1)):
        image = ImageRef(Path("/data/run.h5"), shot)
        listed.append(
            Experiment(
                experiment_identifier(image, lattice),
                beams[shot],
                detector,
                image,
                crystal=crystal(10 * shot + lattice),
                profile={"__id__": "gaussian_rs", "n_sigma": 3.0, "sigma_b": 0.03, "sigma_m": 0.0},
                scaling={"__id__": "KB", "parameters": [1.0]} if shot == 2 else None,
            )
        )
    return listed


def test_there_and_back(experiments, tmp_path):
    path = tmp_path / "a.expt"
    write_expt(path, experiments)
    back = read_expt(path)
    assert len(back) == 4
    for ours, theirs in zip(experiments, back, strict=True):
        assert theirs.identifier == ours.identifier
        assert theirs.image == ours.image
        assert theirs.profile == ours.profile
        assert theirs.scaling == ours.scaling
        np.testing.assert_array_equal(theirs.crystal.real_space, ours.crystal.real_space)
        assert theirs.crystal.space_group_hall == ours.crystal.space_group_hall
        assert theirs.crystal.half_mosaicity_deg == 0.05
        assert theirs.crystal.domain_size_angstrom == 1500.0
        for name in ("wavelength_angstrom", "flux", "polarization_fraction"):
            assert getattr(theirs.beam, name) == getattr(ours.beam, name)
        for a, b in zip(theirs.detector.panels, ours.detector.panels, strict=True):
            np.testing.assert_allclose(a.origin_mm, b.origin_mm, rtol=0, atol=1e-13)
            assert (a.mask_rectangles, a.parallax, a.mu_per_mm) == (b.mask_rectangles, b.parallax, b.mu_per_mm)
            counts = np.arange(*np.add(b.trusted_range, (-3, 4)))[None]
            assert (a.trusted_range[0] <= counts).sum() == (b.trusted_range[0] <= counts).sum()
            assert (counts <= a.trusted_range[1]).sum() == (counts <= b.trusted_range[1]).sum()


def test_models_are_written_once(experiments, tmp_path):
    path = tmp_path / "a.expt"
    write_expt(path, experiments)
    tree = json.loads(path.read_text())
    counts = {name: len(tree[name]) for name in ("experiment", "detector", "beam", "imageset", "crystal", "profile")}
    assert counts == {"experiment": 4, "detector": 1, "beam": 2, "imageset": 3, "crystal": 4, "profile": 1}
    back = read_expt(path)
    assert back[0].detector is back[3].detector
    assert back[0].beam is back[1].beam
    # equal detectors that are not one object are written once too
    apart = ExperimentList(
        [
            replace(item, detector=replace(item.detector, panels=tuple(map(replace, item.detector.panels))))
            for item in back
        ]
    )
    write_expt(path, apart)
    assert len(json.loads(path.read_text())["detector"]) == 1


def test_an_old_file_survives_what_cannot_be_written(experiments, tmp_path):
    path = tmp_path / "a.expt"
    write_expt(path, experiments)
    before = path.read_bytes()
    broken = ExperimentList([replace(experiments[0], beam=Beam(float("nan")))])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_expt(path, broken)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.expt"]


def test_relative_paths_and_templates(experiments, tmp_path):
    path = tmp_path / "a.expt"
    write_expt(path, experiments)
    tree = json.loads(path.read_text())
    tree["imageset"] = [
        {"__id__": "ImageSet", "images": ["run/a_0001.cbf"]},
        {"__id__": "ImageSequence", "template": "run/b_####.cbf"},
        {"__id__": "ImageSequence", "template": "/else/c.h5", "single_file_indices": [4, 5]},
    ]
    tree["scan"] = [{"image_range": [12, 20]}]
    tree["experiment"][1]["scan"] = 0
    path.write_text(json.dumps(tree))
    images = [item.image for item in read_expt(path)]
    assert images[0] == ImageRef(tmp_path / "run" / "a_0001.cbf")
    assert images[1] == ImageRef(tmp_path / "run" / "b_0012.cbf")
    assert images[2] == ImageRef(Path("/else/c.h5"), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("detector"), "no 'detector'"),
        (lambda tree: tree["experiment"][0].update(beam=9), "list index out of range"),
        (lambda tree: tree["experiment"][0].update(beam=-1), "number -1"),
        (lambda tree: tree["experiment"][0].update(beam=None), "no beam or no detector"),
        (lambda tree: tree["beam"][0].update(wavelength=0), "the wavelength 0"),
        (lambda tree: tree["beam"][0].update(direction=[1, 2]), "reshape"),
        (lambda tree: tree["detector"][0].update(panels=[]), "no panels"),
        (lambda tree: tree["detector"][0]["panels"][0].update(pixel_size=[0, 1]), "a panel has"),
        (lambda tree: tree["crystal"][0].pop("real_space_b"), "no 'real_space_b'"),
        (lambda tree: tree.update(__id__="Other"), "does not start as one"),
        (lambda tree: tree.update(beam="text"), "damaged"),
    ],
)
def test_damage_is_named(experiments, tmp_path, change, message):
    path = tmp_path / "a.expt"
    write_expt(path, experiments)
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=message) as caught:
        read_expt(path)
    assert str(caught.value).startswith(f"{path}: ")
