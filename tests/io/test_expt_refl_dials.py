"""Files of experiments and reflections: what DIALS wrote, we read; what we write, DIALS reads the same."""

from __future__ import annotations

import numpy as np
import pytest

from exafel.io.expt import read_expt, write_expt
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import Flag

pytestmark = [pytest.mark.data, pytest.mark.dials]


def assert_same_panels(ours, theirs, *, trusted_margin: float) -> None:
    assert [panel.name for panel in ours] == [panel["name"] for panel in theirs]
    for panel, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(panel.origin_mm, expected["origin"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(panel.fast_axis, expected["fast"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(panel.slow_axis, expected["slow"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(panel.pixel_to_lab(np.array(expected["grid"])), expected["lab"], rtol=0, atol=1e-6)
        pixels, _ = panel.ray_to_pixel(np.array(expected["rays"]))
        np.testing.assert_allclose(pixels, expected["ray_px"], rtol=0, atol=1e-6)
        low, high = expected["trusted_range"]
        assert panel.trusted_range == (low + trusted_margin, high - trusted_margin)
        assert [panel.thickness_mm, panel.mu_per_mm, panel.material, panel.gain] == [
            expected["thickness"],
            expected["mu"],
            expected["material"],
            expected["gain"],
        ]
        assert sorted(panel.mask_rectangles) == [tuple(item) for item in expected["mask"]]


def assert_same_experiments(ours, theirs, *, trusted_margin: float) -> None:
    assert len(ours) == len(theirs["experiments"])
    checked = set()
    for experiment, expected in zip(ours, theirs["experiments"], strict=True):
        assert experiment.identifier == expected["identifier"]
        assert experiment.beam.wavelength_angstrom == expected["beam"]["wavelength"]
        assert experiment.beam.flux == expected["beam"]["flux"]
        np.testing.assert_array_equal(experiment.beam.direction, expected["beam"]["direction"])
        crystal = expected["crystal"]
        np.testing.assert_allclose(experiment.crystal.A, np.reshape(crystal["A"], (3, 3)), rtol=0, atol=1e-14)
        np.testing.assert_allclose(experiment.crystal.cell, crystal["cell"], rtol=1e-12)
        assert experiment.crystal.space_group_hall.strip() == crystal["hall"].strip()
        assert experiment.crystal.half_mosaicity_deg == crystal["half_mosaicity_deg"]
        assert experiment.crystal.domain_size_angstrom == crystal["domain_size"]
        assert [str(experiment.image.path)] == expected["paths"]
        assert (experiment.image.index or 0) == expected["indices"][0]
        if expected["detector"] not in checked:
            checked.add(expected["detector"])
            assert_same_panels(
                experiment.detector.panels, theirs["detectors"][expected["detector"]], trusted_margin=trusted_margin
            )


@pytest.mark.parametrize("name", ["geometry/jungfrau16m_like.expt", "dials_thaumatin/idx-0000_integrated.expt"])
def test_experiments_there_and_back(name, shared_data, tmp_path, ask_dxtbx):
    original, copy = shared_data / name, tmp_path / "copy.expt"
    write_expt(copy, read_expt(original))
    theirs = ask_dxtbx(experiments=[str(original), str(copy)])
    assert_same_experiments(read_expt(original), theirs[str(original)], trusted_margin=0)
    assert_same_experiments(read_expt(original), theirs[str(copy)], trusted_margin=0.5)
    again = tmp_path / "again.expt"
    write_expt(again, read_expt(copy))
    assert_same_experiments(read_expt(again), theirs[str(copy)], trusted_margin=0)


def test_reflections_there_and_back(shared_data, tmp_path, ask_dxtbx):
    original, copy = shared_data / "dials_thaumatin" / "idx-0000_integrated.refl", tmp_path / "copy.refl"
    table = read_refl(original)
    write_refl(copy, table)
    assert copy.read_bytes() == original.read_bytes()
    theirs = ask_dxtbx(reflections=[str(copy)])[str(copy)]
    assert theirs["rows"] == len(table) == 33470
    assert {int(key): text for key, text in theirs["identifiers"].items()} == table.identifiers
    assert set(theirs["columns"]) == set(table)
    for name, expected in theirs["columns"].items():
        assert np.nansum(table[name].astype(float)) == pytest.approx(expected["sum"], rel=1e-9), name


def test_flags_have_the_values_of_dials(ask_dxtbx):
    theirs = {name.upper(): value for name, value in ask_dxtbx(flags=True)["flags"].items()}
    ours = {name: int(flag) for name, flag in Flag.__members__.items()}
    assert set(ours) <= set(theirs)
    assert ours == {name: theirs[name] for name in ours}
