from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exafel.config.scaling import BulkSolventConfig
from exafel.errors import ConfigError, InputError
from exafel.io.crystal import space_group
from exafel.io.mtz import MergedData, read_mtz, write_mtz
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.reference import read_reference

SOLVENT = BulkSolventConfig()
ATOM = "ATOM      1  O   HOH A   1      11.000  12.000  13.000  1.00 20.00           O\n"
CRYST1 = "CRYST1   30.000   40.000   50.000  90.00  90.00  90.00 P 21 21 21\n"


@pytest.mark.data
def test_structure_factors_agree_with_those_of_mmtbx(shared_data: Path) -> None:
    """The reference file was made from the same coordinates by mmtbx with k_sol 0.435 and B_sol 46."""
    expected = read_mtz(shared_data / "mtz" / "lysozyme_fcalc.mtz")
    asu = AsymmetricUnit(space_group("P43212"), merge_anomalous=True)
    solvent = BulkSolventConfig(k_sol=0.435, b_sol=46.0)
    model = read_reference(shared_data / "pdb" / "4bs7.pdb", d_min=1.7, solvent=solvent)
    ours = model.by_key(asu).look_up(asu.keys(expected.hkl))
    theirs = expected.intensities()[0]
    assert np.isfinite(ours).all()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995
    assert (ours @ theirs) / (ours @ ours) == pytest.approx(1.0, abs=0.03)
    dry = read_reference(shared_data / "pdb" / "4bs7.pdb", d_min=1.7, solvent=BulkSolventConfig(enabled=False))
    assert np.corrcoef(dry.by_key(asu).look_up(asu.keys(expected.hkl)), theirs)[0, 1] < 0.6


def test_one_atom_scatters_alike_everywhere_but_for_its_phase(tmp_path: Path) -> None:
    """An atom in P 1 has |F| = f(s) exp(-B s^2/4), which falls with resolution and knows no direction."""
    path = tmp_path / "atom.pdb"
    path.write_text(CRYST1.replace("P 21 21 21", "P 1       ") + ATOM + "END\n")
    model = read_reference(path, d_min=2.0, solvent=BulkSolventConfig(enabled=False))
    d_star_sq = ((model.hkl / np.array([30.0, 40.0, 50.0])) ** 2).sum(axis=1)
    order = np.argsort(d_star_sq)
    amplitude = np.sqrt(model.intensity[order])
    assert amplitude[0] == pytest.approx(8.0, rel=0.02)  # electrons of oxygen
    assert (np.diff(amplitude) < 0.01).all()


def test_an_mtz_gives_its_intensities_cell_and_group(tmp_path: Path) -> None:
    path = tmp_path / "reference.mtz"
    hkl = np.array([[1, 2, 3], [2, 2, 4]], dtype=np.int32)
    values = np.array([100.0, 50.0])
    write_mtz(path, MergedData(hkl, (30.0, 40.0, 50.0, 90.0, 90.0, 90.0), "P 21 21 21", 1.0, values, values, values))
    model = read_reference(path, d_min=None, solvent=SOLVENT)
    asu = AsymmetricUnit(space_group("P212121"), merge_anomalous=False)
    found = model.by_key(asu).look_up(asu.keys(np.array([[-1, -2, -3], [2, 2, 4], [5, 5, 5]])))
    assert found[:2].tolist() == [100.0, 50.0]
    assert np.isnan(found[2])
    assert model.cell == pytest.approx((30.0, 40.0, 50.0, 90.0, 90.0, 90.0))


@pytest.mark.parametrize(
    ("name", "text", "d_min", "error", "message"),
    [
        ("a.pdb", CRYST1 + "END\n", 2.0, InputError, "no atoms"),
        ("a.pdb", ATOM + "END\n", 2.0, InputError, "unit cell"),
        ("a.cif", "not a structure", 2.0, InputError, "structure"),
        ("a.mtz", "not an mtz", 2.0, InputError, "MTZ"),
        ("a.xyz", "", 2.0, ConfigError, "must be MTZ, PDB or mmCIF"),
        ("a.pdb", CRYST1 + ATOM, None, ConfigError, "d_min"),
    ],
)
def test_what_cannot_be_a_reference_is_refused(
    tmp_path: Path, name: str, text: str, d_min: float | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_reference(path, d_min=d_min, solvent=SOLVENT)
