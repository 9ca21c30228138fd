"""``exafel stills --engine dials``: one line and exit code 1 where DIALS cannot, the native containers where it can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from exafel.cli.main import run as run_cli
from exafel.io.expt import read_expt
from exafel.io.manifest import read_manifest, verify_containers
from exafel.io.refl import read_refl

CONFIG = """\
stills:
  spotfinding: {gain: 25, global_threshold: 100, min_spot_size: 2}
  indexing: {unit_cell: [92.9, 92.9, 130.4, 90, 90, 120], space_group: P6122, min_indexed: 12}
  dials: {indexing.refinement_protocol.d_min_start: 1.7}
"""


@pytest.fixture
def arguments(shared_data: Path, tmp_path: Path) -> list[str]:
    """Command line for one good and one damaged image."""
    good = shared_data / "cspad_thermolysin" / "idx-20130301060858401.cbf"
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(good, images)
    (images / "cut_short.cbf").write_bytes(good.read_bytes()[:300_000])
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    return ["stills", "-i", str(images), "-c", str(config), "-o", str(tmp_path / "out"), "--engine", "dials", "--json"]


@pytest.mark.dials
@pytest.mark.data
def test_a_build_that_cannot_index_is_one_line_and_exit_code_1(
    incomplete_dials: None, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("exafel: ")
    assert "dials.stills_process: this build of DIALS 3" in line
    assert "lacks the module xfel_mono_sim_ext" in line
    assert "use engine native" in line
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.dials
@pytest.mark.data
@pytest.mark.slow
def test_dials_lattices_are_in_the_containers_of_the_step(
    complete_dials: None, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(arguments) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["outcomes"] == {"integrated": 1, "read_failed": 1}
    np.testing.assert_allclose(summary["cell_median"], (93.4, 93.4, 131.1, 90, 90, 120), atol=0.2)
    assert 600 < summary["n_reflections"] < 1000, "the peer integrates 853 reflections of this image"
    assert summary["cpu_s_per_phase"]["dials"] > 0
    assert "engine dials has no parameter like stills.indexing.min_indexed: not used" in printed.err

    out = tmp_path / "out"
    manifest = read_manifest(out)
    verify_containers(out, manifest)
    assert manifest.engine == "dials"
    assert manifest.engine_version.startswith("DIALS 3.")
    ((expt,), (refl,), (strong,)) = (manifest.files(out, kind) for kind in ("expt", "refl", "strong"))
    (experiment,) = read_expt(expt)
    assert read_refl(refl).identifiers == {0: experiment.identifier}
    assert len(read_refl(refl)) == summary["n_reflections"]
    assert len(read_refl(strong)) > 100
    assert "Saving" in (out / "logs" / "dials-00000.log").read_text()
