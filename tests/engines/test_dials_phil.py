"""Our parameters in DIALS' words, and DIALS' names for images; real DIALS is asked whether it knows the words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from exafel.config.base import known_keys, validate
from exafel.config.stills import StillsConfig
from exafel.engines.dials import _interpreter
from exafel.engines.dials_phil import EQUIVALENTS, phil_text, select_images, without_equivalent
from exafel.io.experiment import ImageRef

CONFIG = {
    "engine": "dials",
    "spotfinding": {"gain": 25.0, "kernel_size": [4, 5], "min_spot_size": 2, "min_spots": 20, "ice_ring_width": 0.002},
    "indexing": {"unit_cell": [92.9, 92.9, 130.4, 90, 90, 120], "space_group": "P 61 2 2", "max_lattices": 2},
    "integration": {"d_min": 1.7, "significance_filter": {"isigi_cutoff": 0.5}},
    "geometry": {"wavelength_angstrom": 1.27, "reference": "refined.expt"},
}


def config(**more: object) -> StillsConfig:
    return validate(StillsConfig, {**CONFIG, **more})


def entries(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_every_parameter_reaches_its_equivalent() -> None:
    phil = entries(phil_text(config(), file_list="files.txt"))
    assert phil["spotfinder.threshold.algorithm"] == '"dispersion"'
    assert phil["spotfinder.threshold.dispersion.gain"] == phil["integration.summation.detector_gain"] == "25.0"
    assert phil["spotfinder.threshold.dispersion.kernel_size"] == "4 5"
    assert phil["spotfinder.filter.min_spot_size"] == "2"
    assert phil["spotfinder.filter.ice_rings.filter"] == "True"
    assert phil["dispatch.hit_finder.minimum_number_of_reflections"] == "20"
    assert phil["indexing.known_symmetry.unit_cell"] == "92.9 92.9 130.4 90.0 90.0 120.0"
    assert phil["indexing.known_symmetry.space_group"] == '"P 61 2 2"'
    assert phil["indexing.stills.refine_candidates_with_known_symmetry"] == "True"
    assert phil["prediction.d_min"] == "1.7"
    assert (phil["significance_filter.enable"], phil["significance_filter.isigi_cutoff"]) == ("True", "0.5")
    assert phil["geometry.beam.wavelength"] == "1.27"
    assert phil["input.reference_geometry"] == f'"{Path("refined.expt").resolve()}"', "it runs in another folder"
    assert phil["output.composite_output"] == "True"
    assert phil["input.file_list"] == '"files.txt"'


def test_dials_own_parameters_go_over_the_mapped_ones() -> None:
    own = {"spotfinder.filter.min_spot_size": 7, "profile.gaussian_rs.parameters.sigma_b_cutoff": 0.5}
    phil = entries(phil_text(config(dials=own), file_list="files.txt"))
    assert phil["spotfinder.filter.min_spot_size"] == "7"
    assert phil["profile.gaussian_rs.parameters.sigma_b_cutoff"] == "0.5"


def test_the_radial_algorithm_is_ours_alone() -> None:
    radial = config(spotfinding={"algorithm": "radial"})
    assert "spotfinder.threshold.algorithm" not in entries(phil_text(radial, file_list="files.txt"))
    assert without_equivalent(radial) == ["spotfinding.algorithm"]
    extended = config(spotfinding={"algorithm": "dispersion_extended"})
    phil = entries(phil_text(extended, file_list="files.txt"))
    assert phil["spotfinder.threshold.algorithm"] == '"dispersion_extended"'
    assert without_equivalent(extended) == []


def test_what_dials_has_no_parameter_for_is_named() -> None:
    assert without_equivalent(config()) == []
    assert without_equivalent(config(indexing={"min_indexed": 11})) == ["indexing.min_indexed"]
    assert without_equivalent(config(keep_spots_of=3, chunk_size=2)) == ["chunk_size"]


def test_the_table_names_real_keys() -> None:
    for key in EQUIVALENTS:
        *sections, name = key.split(".")
        assert name in known_keys(StillsConfig, tuple(sections)), key


def test_a_tag_is_written_so_that_phil_reads_it_back() -> None:
    lines = phil_text(config(), file_list="files.txt", tags=['run "1"; x', "b"]).splitlines()
    assert lines[-2:] == [r'input.image_tag = "run \"1\"; x"', 'input.image_tag = "b"']


def test_single_images_are_called_by_their_files() -> None:
    images = [ImageRef(Path(f"/d/shot_{number}.cbf.bz2")) for number in (2, 1, 3)]
    chosen = select_images(images, [0, 1])
    assert chosen.files == (Path("/d/shot_1.cbf.bz2"), Path("/d/shot_2.cbf.bz2"))
    assert chosen.tags == {"shot_2.cbf": 0, "shot_1.cbf": 1}
    assert chosen.whole


def test_images_of_one_name_are_counted_over_all_files() -> None:
    one, two = Path("/d/a.h5"), Path("/d/b.h5")
    images = [ImageRef(two, 0), ImageRef(two, 1), *(ImageRef(one, index) for index in range(3))]
    chosen = select_images(images, [1, 3])
    assert chosen.files == (one, two)
    assert chosen.tags == {"a_00001": 3, "b_00004": 1}
    assert not chosen.whole
    alone = select_images(images, [0, 1])
    assert (alone.files, alone.tags, alone.whole) == ((two,), {"b_00000": 0, "b_00001": 1}, True)


def test_files_of_one_name_in_two_folders_are_told_apart() -> None:
    images = [ImageRef(Path(f"/{run}/shot.cbf")) for run in ("run1", "run2")]
    assert select_images(images, [0, 1]).tags == {"shot_00000": 0, "shot_00001": 1}


@pytest.mark.dials
def test_real_dials_knows_every_parameter(dials: Path, tmp_path: Path) -> None:
    file = tmp_path / "stills.phil"
    file.write_text(phil_text(config(), file_list="files.txt", tags=["shot_1", "shot 2"]))
    ask = (
        "import sys; from libtbx.phil import parse; from dials.command_line.stills_process import phil_scope;"
        "scope, unused = phil_scope.fetch(parse(file_name=sys.argv[1]), track_unused_definitions=True);"
        "values = scope.extract();"
        "print([item.path for item in unused], values.input.image_tag,"
        " values.indexing.known_symmetry.space_group.type().lookup_symbol(),"
        " values.indexing.known_symmetry.unit_cell.parameters(), values.spotfinder.filter.ice_rings.width)"
    )
    interpreter = _interpreter(dials / "dials.stills_process")
    assert interpreter is not None
    done = subprocess.run([interpreter, "-c", ask, str(file)], capture_output=True, text=True, timeout=60, check=True)
    expected = "[] ['shot_1', 'shot 2'] P 61 2 2 (92.9, 92.9, 130.4, 90.0, 90.0, 120.0) 0.002"
    assert done.stdout.splitlines()[-1] == expected
