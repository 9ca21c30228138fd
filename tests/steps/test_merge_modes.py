"""The merge step's ways to make lattices alike, on made stills of a crystal with an indexing ambiguity."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exafel._kernels import still_factors
from exafel.config.merge import MergeConfig
from exafel.errors import ConfigError, InputError
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.mtz import MergedData, read_mtz, write_mtz
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.accumulators import ACCUMULATORS_NAME, read_accumulators
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.scaling import Reference
from exafel.parallel.comm import SerialComm
from exafel.parallel.local import run_local
from exafel.steps import merge as step
from exafel.steps.merge import MergeSummary

CELL = (60.0, 60.0, 90.0, 90.0, 90.0, 120.0)
GROUP = gemmi.SpaceGroup("P 63")
D_MIN, RADIUS, NOISE = 3.2, 8e-4, 5.0
UNIQUE = gemmi.make_miller_array(gemmi.UnitCell(*CELL), GROUP, 2.9)
TRUE = 200.0 * np.random.default_rng(7).exponential(size=len(UNIQUE))
ASU = AsymmetricUnit(GROUP, merge_anomalous=True)
TABLE = Reference.of(ASU.keys(UNIQUE), TRUE)
OTHER = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])  # h,k,l to k,h,-l: its own inverse
GRID = np.stack(np.meshgrid(*[np.arange(-28, 29)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
N_LATTICES = 90
BAD = 11
PANEL = Panel("p", np.array([-1.0, 1.0, -2.0]), np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), (0.1, 0.1), (20, 20))
DETECTOR = Detector((PANEL,))


@cache
def still(number: int) -> tuple[Experiment, ReflectionTable]:
    """One lattice: partial, tilted, on a scale of its own, in either indexing; BAD has wrong intensities."""
    rng = np.random.default_rng(500 + number)
    beam = Beam(1.3)
    found = Rotation.random(random_state=number).as_matrix() @ np.linalg.inv(orthogonalization(CELL)).T
    true = Rotation.from_euler("xy", rng.normal(0, 0.04, 2), degrees=True).as_matrix() @ found
    nodes = GRID @ true.T
    length = np.linalg.norm(nodes, axis=1)
    distance = np.linalg.norm(nodes + beam.s0, axis=1) - np.linalg.norm(beam.s0)
    near = (np.abs(distance) < 1.5 * RADIUS) & (length > 0.03) & (length < 1 / D_MIN)
    _, partiality = still_factors(np.array([1.0, 0, RADIUS, 0, 0, 0]), beam.s0, np.ascontiguousarray(nodes[near]))
    intensity = TABLE.look_up(ASU.keys(GRID[near]))
    if number == BAD:
        intensity = rng.permutation(intensity)
    scale = 2.0 ** rng.normal(0, 0.5)
    measured = scale * (partiality * intensity + rng.normal(0, NOISE, len(intensity)))
    flipped = number % 2 == 1
    hkl, basis = GRID[near], np.linalg.inv(found)
    if flipped:
        hkl, basis = hkl @ OTHER, OTHER @ basis
    columns = {
        "miller_index": hkl.astype(np.int32),
        "s1": np.tile([0.0, 0.0, -1.0], (len(hkl), 1)),
        "intensity.sum.value": measured,
        "intensity.sum.variance": np.full(len(hkl), (scale * NOISE) ** 2),
        "flags": np.full(len(hkl), int(Flag.INTEGRATED_SUM), dtype=np.uint64),
    }
    image = ImageRef(Path("/data/made.h5"), number)
    return Experiment(f"made-{number:03d}", beam, DETECTOR, image, Crystal(basis, GROUP.hall)), ReflectionTable(columns)


def write_lattices(folder: Path, name: str, numbers: Sequence[int]) -> None:
    experiments, tables = ExperimentList(), []
    for place, number in enumerate(numbers):
        experiment, table = still(number)
        experiments.append(experiment)
        tables.append(ReflectionTable({**table.columns, "id": np.full(len(table), place, dtype=np.int32)}))
    rows = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    folder.mkdir(exist_ok=True)
    write_expt(folder / f"{name}_integrated.expt", experiments)
    identifiers = {place: experiment.identifier for place, experiment in enumerate(experiments)}
    write_refl(folder / f"{name}_integrated.refl", ReflectionTable(rows, identifiers))


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three pairs of files with thirty lattices each."""
    folder = tmp_path_factory.mktemp("stills")
    for part in range(3):
        write_lattices(folder, f"idx-{part:04d}", range(part, N_LATTICES, 3))
    return folder


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.mtz"
    write_mtz(path, MergedData(UNIQUE, CELL, "P 63", 1.3, TRUE, np.ones(len(TRUE)), np.ones(len(TRUE))))
    return path


def config(truth: Path, **sections: object) -> MergeConfig:
    common = {"d_min": D_MIN, "unit_cell": CELL, "space_group": "P 63", "merge_anomalous": True}
    quiet = {"significance_filter": {"enabled": False}, "statistics": {"cciso_model": str(truth), "n_bins": 4}}
    return MergeConfig.model_validate({**common, **quiet, **sections})


def merged(stills: Path, out: Path, settings: MergeConfig, onto: Path | None = None) -> MergeSummary:
    return step.run(step.request(settings, [stills], out, onto=onto), SerialComm())


def results(out: Path) -> tuple[bytes, bytes]:
    return (out / "merged.mtz").read_bytes(), (out / "statistics.json").read_bytes()


BREHM = {"algorithm": "brehm_diederichs"}
SELF = {"algorithm": "self"}


def test_each_way_to_make_lattices_alike_brings_them_nearer_to_the_truth(
    stills: Path, truth: Path, tmp_path: Path
) -> None:
    """Nothing is known but the lattices themselves; the truth is looked at in the end only.

    Which of the two indexings is called the first is arbitrary, and the same in every run: here it is the truth's.
    """
    plain = merged(stills, tmp_path / "a", config(truth))
    indexed = merged(stills, tmp_path / "b", config(truth, reindexing=BREHM))
    scaled = merged(stills, tmp_path / "c", config(truth, reindexing=BREHM, scaling=SELF))
    refined = merged(
        stills, tmp_path / "d", config(truth, reindexing=BREHM, scaling=SELF, postrefinement={"enabled": True})
    )
    assert sorted(indexed.reindexed.values()) == [45, 45]
    assert scaled.n_cycles >= 2
    near = [summary.cc_iso for summary in (plain, indexed, scaled, refined)]
    assert near[0] < near[1] < near[2] < near[3]
    assert near[3] > 0.98
    halves = [summary.cc_half for summary in (plain, indexed, scaled, refined)]
    assert halves[0] < halves[1] < halves[2] < halves[3]
    assert halves[3] > 0.95


def test_a_reference_settles_the_indexing_and_postrefinement_finds_the_truth(
    stills: Path, truth: Path, tmp_path: Path
) -> None:
    scaling = {"algorithm": "mark0", "model": str(truth)}
    reindexing = {"algorithm": "reference"}
    scaled = merged(stills, tmp_path / "a", config(truth, scaling=scaling, reindexing=reindexing))
    refined = merged(
        stills,
        tmp_path / "b",
        config(truth, scaling=scaling, reindexing=reindexing, postrefinement={"enabled": True}),
    )
    assert scaled.reindexed.pop("h,k,l") in {44, 45}  # the bad lattice takes either
    assert refined.cc_iso > max(scaled.cc_iso, 0.985)
    assert refined.reasons == {"correlation": 1}


@pytest.mark.parametrize("model", ["none", "ev11", "mm24", "errors_from_sample_residuals"])
def test_every_error_model_merges(stills: Path, truth: Path, tmp_path: Path, model: str) -> None:
    scaling = {"algorithm": "mark0", "model": str(truth)}
    settings = config(truth, scaling=scaling, reindexing={"algorithm": "reference"}, error={"model": model})
    summary = merged(stills, tmp_path, settings)
    assert summary.error_model == model
    assert summary.cc_iso > 0.9
    assert (summary.sdfac is not None) == (model == "ev11")
    assert ("sfac" in summary.error_parameters) == (model == "mm24")


def test_a_lattice_that_harms_is_left_out(stills: Path, truth: Path, tmp_path: Path) -> None:
    filters = {"delta_cc_half": {"enabled": True, "max_rounds": 2}, "outlier": {"min_corr": -1.0}}
    scaling = {"algorithm": "mark0", "model": str(truth)}
    reindexing = {"algorithm": "reference"}
    settings = {"scaling": scaling, "reindexing": reindexing, "postrefinement": {"enabled": True}}
    kept = merged(stills, tmp_path / "a", config(truth, **settings, filter={"outlier": {"min_corr": -1.0}}))
    cleaned = merged(stills, tmp_path / "b", config(truth, **settings, filter=filters))
    assert cleaned.reasons["delta_cc_half"] >= 1
    assert cleaned.n_accepted == kept.n_accepted - cleaned.reasons["delta_cc_half"]
    assert cleaned.cc_iso > kept.cc_iso


EVERYTHING = {
    "reindexing": BREHM,
    "scaling": {"algorithm": "self", "self_reference": {"max_cycles": 2}},
    "postrefinement": {"enabled": True},
    "error": {"model": "mm24"},
    "filter": {"delta_cc_half": {"enabled": True}},
}


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_and_observations_on_disk_change_no_byte(stills: Path, truth: Path, tmp_path: Path, ranks: int) -> None:
    """Every collective part at once: sampling, cycles, fits, the filter, and the exchange in many small pieces."""
    merged(stills, tmp_path / "one", config(truth, **EVERYTHING))
    small = config(truth, **EVERYTHING, slice_rows=1000, rows_in_memory=2000)
    run_local(step.run, ranks, step.request(small, [stills], tmp_path / "many"))
    assert results(tmp_path / "one") == results(tmp_path / "many")
    assert not (tmp_path / "many" / ".work").exists()


def accumulating(truth: Path, **more: object) -> MergeConfig:
    scaling = {"algorithm": "mark0", "model": str(truth)}
    error = {"model": "given", "sdfac": 1.2, "sdadd": 0.2}
    postrefinement = {"enabled": True}
    return config(
        truth,
        scaling=scaling,
        reindexing={"algorithm": "reference"},
        postrefinement=postrefinement,
        error=error,
        accumulate=True,
        **more,
    )


def numbers(tree: object, name: str = "") -> dict[str, object]:
    """Leaves of nested mappings and sequences by their path."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, tuple) else None
    if items is None:
        return {name: tree}
    return {key: leaf for place, item in items for key, leaf in numbers(item, f"{name}.{place}").items()}


def test_lattices_added_later_are_as_if_merged_at_once(truth: Path, tmp_path: Path) -> None:
    write_lattices(tmp_path / "first", "a", range(50))
    write_lattices(tmp_path / "second", "b", range(50, N_LATTICES))
    settings = accumulating(truth)
    merged(tmp_path / "first", tmp_path / "A", settings)
    added = merged(tmp_path / "second", tmp_path / "AB", settings, onto=tmp_path / "A")
    request = step.request(settings, [tmp_path / "first", tmp_path / "second"], tmp_path / "whole")
    whole = step.run(request, SerialComm())
    assert (added.n_added_to, whole.n_added_to) == (49, 0)
    one, other = (numbers(item.model_copy(update={"n_added_to": 0}).model_dump()) for item in (added, whole))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value == (pytest.approx(other[key], rel=1e-9) if isinstance(value, float) else other[key]), key
    sums = [read_accumulators(tmp_path / name / ACCUMULATORS_NAME) for name in ("AB", "whole")]
    assert np.array_equal(sums[0].merged.keys, sums[1].merged.keys)
    assert np.array_equal(sums[0].digests, sums[1].digests)
    for name in ("all", "odd", "even"):
        first, second = (getattr(item.merged, name) for item in sums)
        assert np.array_equal(first.n, second.n)
        np.testing.assert_allclose(first.weighted, second.weighted, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(first.weight, second.weight, rtol=1e-12)
    assert merged(tmp_path / "second", tmp_path / "AB", settings, onto=tmp_path / "A").up_to_date


def test_what_cannot_be_added_is_refused_in_one_line(truth: Path, tmp_path: Path) -> None:
    write_lattices(tmp_path / "first", "a", range(20))
    write_lattices(tmp_path / "again", "b", range(10, 30))  # BAD is left out of either
    settings = accumulating(truth)
    merged(tmp_path / "first", tmp_path / "A", settings)
    with pytest.raises(InputError, match="9 of the lattices are in the earlier merge already"):
        merged(tmp_path / "again", tmp_path / "AB", settings, onto=tmp_path / "A")
    with pytest.raises(ConfigError, match=r"merge\.minimum_multiplicity differs"):
        step.request(
            accumulating(truth, minimum_multiplicity=3), [tmp_path / "again"], tmp_path / "B", onto=tmp_path / "A"
        )
    plain = config(truth, scaling={"algorithm": "mark0", "model": str(truth)}, error={"model": "none"})
    merged(tmp_path / "first", tmp_path / "plain", plain)
    with pytest.raises(ConfigError, match="kept no sums"):
        step.request(settings, [tmp_path / "again"], tmp_path / "B", onto=tmp_path / "plain")
    path = tmp_path / "A" / ACCUMULATORS_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        read_accumulators(path)
    with pytest.raises(InputError, match="delete"):
        step.request(settings, [tmp_path / "again"], tmp_path / "B", onto=tmp_path / "A")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"postrefinement": {"enabled": True}}, "postrefinement needs scaling.algorithm"),
        ({"reindexing": {"algorithm": "reference"}}, "reindexing.algorithm reference needs"),
        ({"error": {"model": "given"}}, "error.model given needs"),
        ({"accumulate": True}, "accumulate needs scaling.algorithm mark0"),
    ],
)
def test_what_does_not_go_together_is_said(truth: Path, sections: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(truth, **sections)


def test_scaled_lattices_and_observations_go_to_other_programs(stills: Path, truth: Path, tmp_path: Path) -> None:
    """Gemmi merges the unmerged MTZ to our intensities; scaled files hold full reflections of one indexing."""
    more = {
        "reindexing": {"algorithm": "reference"},
        "scaling": {"algorithm": "mark0", "model": str(truth)},
        "postrefinement": {"enabled": True},
        "minimum_multiplicity": 1,
        "merge_anomalous": False,
    }
    settings = config(truth, **more, output={"scaled": True, "unmerged_mtz": True})
    summary = merged(stills, tmp_path / "one", settings)
    ours = gemmi.read_mtz_file(str(tmp_path / "one" / "merged.mtz"))
    unmerged = gemmi.read_mtz_file(str(tmp_path / "one" / "unmerged.mtz"))
    assert len(unmerged.batches) == summary.n_accepted
    assert unmerged.nreflections >= summary.n_obs
    theirs = gemmi.Intensities()
    theirs.import_mtz(unmerged, gemmi.DataType.Unmerged)
    theirs.merge_in_place(gemmi.DataType.Mean)
    expected = {tuple(hkl): value for hkl, value in zip(theirs.miller_array.tolist(), theirs.value_array, strict=True)}
    found = np.array(ours, copy=False)[:, ours.column_with_label("I").idx]
    compared = [expected[tuple(hkl)] for hkl in ours.make_miller_array().tolist()]
    np.testing.assert_allclose(found, compared, rtol=1e-4, atol=1e-3)

    seen = 0
    for path in sorted((tmp_path / "one").glob("scaled-*.refl")):
        table, experiments = read_refl(path), read_expt(path.with_suffix(".expt"))
        assert sorted(table.identifiers.values()) == sorted(item.identifier for item in experiments)
        full = table["intensity.scale.value"] / table["inverse_scale_factor"]
        assert np.corrcoef(full, TABLE.look_up(ASU.keys(table["miller_index"])))[0, 1] > 0.95
        for number, experiment in enumerate(experiments):
            nodes = table["miller_index"][table["id"] == number] @ experiment.crystal.A.T
            distance = np.linalg.norm(nodes + experiment.beam.s0, axis=1) - np.linalg.norm(experiment.beam.s0)
            assert np.abs(distance).max() < 3e-3
        seen += len(experiments)
    assert seen == summary.n_accepted
    run_local(step.run, 2, step.request(settings, [stills], tmp_path / "two"))
    names = ["unmerged.mtz", *(f"scaled-{number:05d}.refl" for number in range(3))]
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


@pytest.mark.dials
def test_dials_merges_the_scaled_lattices_to_the_same_intensities(truth: Path, tmp_path: Path, dials: Path) -> None:
    write_lattices(tmp_path / "stills", "a", range(25))
    more = {
        "reindexing": {"algorithm": "reference"},
        "scaling": {"algorithm": "mark0", "model": str(truth)},
        "postrefinement": {"enabled": True},
        "error": {"model": "none"},
        "minimum_multiplicity": 1,
    }
    merged(tmp_path / "stills", tmp_path / "out", config(truth, **more, output={"scaled": True}))
    files = [str(tmp_path / "out" / f"scaled-00000.{kind}") for kind in ("expt", "refl")]
    options = ["assess_space_group=False", "truncate=False", "anomalous=False"]
    program = [str(dials / "dials.merge"), *files, *options]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    ours, theirs = read_mtz(tmp_path / "out" / "merged.mtz", "I"), read_mtz(tmp_path / "merged.mtz", "IMEAN")
    values = {tuple(hkl): value for hkl, value in zip(theirs.hkl.tolist(), theirs.value, strict=True)}
    assert len(values) == len(ours.hkl)
    compared = [values[tuple(hkl)] for hkl in ours.hkl.tolist()]
    np.testing.assert_allclose(ours.value, compared, rtol=1e-4, atol=1e-2)
