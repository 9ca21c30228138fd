"""Truth of simulations, written and read."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.crystal import Crystal, space_group
from exafel.io.experiment import ImageRef
from exafel.io.files import write_json
from exafel.io.mtz import read_mtz
from exafel.io.nxmx import NXmxSource
from exafel.io.truth import TrueShot, read_truth, write_true_amplitudes, write_truth

CELL = (42.0, 42.0, 89.0, 90.0, 90.0, 90.0)


def test_records_come_back(tmp_path: Path) -> None:
    crystal = Crystal(np.array([[0.0, 42.0, 0.0], [-42.0, 0.0, 0.0], [0.0, 0.0, 89.0]]), space_group("P43212").hall)
    path = tmp_path / "truth-00000.jsonl"
    write_truth(
        path,
        [
            TrueShot("rank-00000.h5", 0, 10, 1.3, crystal, 2.5, (30.0, 31.0, 32.0)),
            TrueShot("rank-00000.h5", 1, 11, 1.31, None),
        ],
    )
    truth = read_truth(path)
    assert len(truth) == 2
    hit = truth.find(ImageRef(Path("elsewhere/rank-00000.h5"), 0))
    missed = truth.find(ImageRef(Path("rank-00000.h5"), 1))
    assert hit is not None
    assert missed is not None
    assert hit.crystal is not None
    np.testing.assert_array_equal(hit.crystal.real_space, crystal.real_space)
    assert hit.crystal.space_group.hm == "P 43 21 2"
    assert (hit.shot, hit.scale, hit.n_cells) == (10, 2.5, (30.0, 31.0, 32.0))
    assert missed.crystal is None
    assert truth.find(ImageRef(Path("rank-00001.h5"), 0)) is None


def test_nanobragg_truth(tmp_path: Path) -> None:
    U = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    entry = {"i": 0, "U": U, "cell": list(CELL), "sg": "P 43 21 2", "wavelength": 1.3}
    write_json(tmp_path / "truth.json", {"note": "", "images": [entry]})
    shot = read_truth(tmp_path / "truth.json").find(ImageRef(Path("any.h5"), 0))
    assert shot is not None
    assert shot.crystal is not None
    np.testing.assert_allclose(shot.crystal.real_space, [[0, 42, 0], [-42, 0, 0], [0, 0, 89]], atol=1e-12)
    np.testing.assert_allclose(shot.crystal.U, U, atol=1e-12)


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"file": 1}\n')
    (tmp_path / "b.json").write_text('{"image": []}')
    for name, message in (("a.jsonl", "line 1"), ("b.json", "images"), ("c.jsonl", "cannot read"), (".", "no truth")):
        with pytest.raises(InputError, match=message):
            read_truth(tmp_path / name)


@pytest.mark.parametrize("anomalous", [False, True])
def test_amplitudes_come_back_as_mtz(tmp_path: Path, anomalous: bool) -> None:
    hkl = np.array([[1, 0, 2], [2, 1, 3]], dtype=np.int32)
    values = np.array([10.0, 20.0])
    if anomalous:
        hkl, values = np.concatenate([hkl, -hkl]), np.array([10.0, 20.0, 11.0, 19.0])
    path = tmp_path / "truth.mtz"
    write_true_amplitudes(path, hkl, values, CELL, space_group("P43212"), anomalous=anomalous)
    found = read_mtz(path)
    assert found.amplitude
    order = np.lexsort(found.hkl.T)
    expected = np.lexsort(hkl.T)
    np.testing.assert_array_equal(found.hkl[order], hkl[expected])
    np.testing.assert_allclose(found.value[order], values[expected])
    assert gemmi.read_mtz_file(str(path)).cell.a == pytest.approx(42.0)


@pytest.mark.data
def test_truth_of_the_example_images_fits_them(shared_data: Path) -> None:
    folder = shared_data / "lysozyme_stills"
    truth, source = read_truth(folder / "truth.json"), NXmxSource(folder / "lysozyme_stills.h5")
    assert len(truth) == len(source) == 48
    for index in (0, 17, 47):
        shot = truth.find(source.image(index))
        assert shot is not None
        assert shot.crystal is not None
        assert shot.wavelength_angstrom == pytest.approx(source.beam(index).wavelength_angstrom, rel=2e-4)
        assert shot.crystal.cell == pytest.approx((79.1, 79.1, 38.4, 90, 90, 90), rel=5e-3)
