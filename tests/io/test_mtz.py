"""MTZ files, and amplitudes from intensities."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.mtz import MergedData, amplitudes, read_mtz, write_mtz

CELL = (79.1, 79.1, 38.4, 90.0, 90.0, 90.0)


def merged(**changes) -> MergedData:
    rng = np.random.default_rng(5)
    hkl = np.array([[h, k, 3] for h in range(1, 9) for k in range(h)], dtype=np.int32)
    n = len(hkl)
    columns = {
        name: rng.normal(50, 20, n)
        for name in ("intensity", "intensity_plus", "intensity_minus", "intensity_half1", "intensity_half2")
    }
    columns |= {name.replace("intensity", "sigma"): rng.uniform(1, 3, n) for name in columns}
    columns["intensity_minus"][4] = np.nan
    return MergedData(hkl, CELL, "P 43 21 2", 1.3, n_obs=np.arange(n), **(columns | changes))


def test_the_columns_that_users_expect(tmp_path):
    path, data = tmp_path / "a.mtz", merged()
    write_mtz(path, data, history=("merged from 3 runs",))
    mtz = gemmi.read_mtz_file(str(path))
    expected = "H K L F SIGF I SIGI I(+) SIGI(+) I(-) SIGI(-) IHALF1 SIGIHALF1 IHALF2 SIGIHALF2 N"
    assert " ".join(column.label for column in mtz.columns) == expected
    assert "".join(column.type for column in mtz.columns) == "HHHFQJQKMKMJQJQI"
    assert mtz.spacegroup.hm == "P 43 21 2"
    assert mtz.datasets[-1].wavelength == pytest.approx(1.3)
    assert "merged from 3 runs" in mtz.history
    assert "ExaFEL Workflows" in mtz.history[0]


def test_means_and_mates_are_read_back(tmp_path):
    path, data = tmp_path / "a.mtz", merged()
    write_mtz(path, data)
    for column in (None, "I"):
        mean = read_mtz(path, column)
        order = np.lexsort(mean.hkl.T)
        ours = np.lexsort(data.hkl.T)
        np.testing.assert_array_equal(mean.hkl[order], data.hkl[ours])
        np.testing.assert_allclose(mean.value[order], data.intensity[ours], rtol=1e-6)
        np.testing.assert_allclose(mean.sigma[order], data.sigma[ours], rtol=1e-6)
    assert mean.cell == pytest.approx(CELL)
    assert gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(mean.space_group)).hm == "P 43 21 2"
    mates = read_mtz(path, "I(+)")
    assert len(mates.value) == 2 * len(data.hkl) - 1
    by_hkl = {tuple(hkl): value for hkl, value in zip(mates.hkl.tolist(), mates.value, strict=True)}
    for hkl, plus, minus in zip(data.hkl, data.intensity_plus, data.intensity_minus, strict=True):
        assert by_hkl[tuple(hkl.tolist())] == pytest.approx(plus, rel=1e-6)
        if np.isfinite(minus):
            assert by_hkl[tuple((-hkl).tolist())] == pytest.approx(minus, rel=1e-6)


def test_amplitudes_are_squared_on_demand(tmp_path):
    path = tmp_path / "a.mtz"
    write_mtz(path, merged())
    reference = read_mtz(path, "F")
    assert reference.amplitude
    intensity, sigma = reference.intensities()
    np.testing.assert_allclose(intensity, reference.value**2)
    np.testing.assert_allclose(sigma, 2 * reference.value * reference.sigma)


def test_columns_that_were_not_made_are_missing_values(tmp_path):
    absent = dict.fromkeys(
        [f"{what}_{which}" for what in ("intensity", "sigma") for which in ("plus", "minus", "half1", "half2")]
    )
    write_mtz(tmp_path / "a.mtz", merged(**absent))
    mtz = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    columns = {column.label: np.array(column) for column in mtz.columns}
    write_mtz(tmp_path / "b.mtz", merged())
    assert list(columns) == [column.label for column in gemmi.read_mtz_file(str(tmp_path / "b.mtz")).columns]
    filled = {label for label, values in columns.items() if np.isfinite(values).all()}
    assert filled == {"H", "K", "L", "F", "SIGF", "I", "SIGI", "N"}
    assert all(np.isnan(values).all() for label, values in columns.items() if label not in filled)


@pytest.mark.parametrize("intensity", [-300.0, -4.0, -0.5, 0.0, 0.5, 4.0, 1e4])
def test_amplitudes_are_the_most_probable_ones(intensity):
    # Sivia and David: p(F) is proportional to F exp(-(I - F^2)^2 / 2 sigma^2); its top and its curvature by brute force
    sigma = 2.0
    amplitude, error = amplitudes(np.array([intensity]), np.array([sigma]))
    grid = amplitude[0] + error[0] * np.linspace(-0.5, 0.5, 20001)
    log_p = np.log(grid) - (intensity - grid**2) ** 2 / (2 * sigma**2)
    assert grid[np.argmax(log_p)] == pytest.approx(amplitude[0], abs=1e-3 * error[0])
    step = grid[1] - grid[0]
    at = 10000
    wide = 200
    curvature = -(log_p[at + wide] - 2 * log_p[at] + log_p[at - wide]) / (wide * step) ** 2
    assert 1 / np.sqrt(curvature) == pytest.approx(error[0], rel=1e-3)


def test_strong_amplitudes_are_square_roots_and_bad_sigmas_give_none():
    amplitude, error = amplitudes(np.array([1e6, 5.0]), np.array([10.0, 0.0]))
    assert amplitude[0] == pytest.approx(1e3)
    assert error[0] == pytest.approx(10 / 2e3, rel=1e-6)
    assert np.isnan(amplitude[1])


def test_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "a.mtz"
    with pytest.raises(InputError, match="no such file"):
        read_mtz(path)
    write_mtz(path, merged())
    with pytest.raises(InputError, match=r"no column 'FMODEL' .* \(there are: F, I, "):
        read_mtz(path, "FMODEL")
    content = path.read_bytes()
    for damaged in (b"", b"MTZ ", content[:100], content[: len(content) // 2], b"JUNK" + content[4:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or not MTZ") as caught:
            read_mtz(path)
        assert "\n" not in str(caught.value)
