"""Refine the detector's geometry jointly with many indexed lattices; write it for the next run of stills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import Field

from exafel.config.base import Model
from exafel.config.refine_detector import RefineDetectorConfig
from exafel.errors import InputError, NothingUsableError
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.files import write_json
from exafel.io.geometry import Beam, Detector
from exafel.io.manifest import MANIFEST_NAME, read_manifest, verify_containers
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary, require_paths
from exafel.stills.joint_refinement import JointData, JointResult, refine_jointly

GEOMETRY_NAME = "refined.expt"
SHIFTS_NAME = "shifts.json"
_MIN_SPOTS = 10  # of a lattice: fewer tell little besides its own orientation
_SAME_MM = 1e-4


@dataclass(frozen=True, eq=False)
class _Lattice:
    """One lattice and its indexed spots."""

    experiment: Experiment
    spots: ReflectionTable


class PanelShift(Model):
    """How a panel has moved: its centre (mm) and its axes (deg)."""

    panel: int
    name: str
    shift_mm: tuple[float, float, float]
    turn_deg: float


class RefineDetectorSummary(StepSummary):
    """How well the refined detector fits."""

    n_lattices: int = Field(description="Lattices used.")
    n_spots: int = Field(description="Spots used, without outliers.")
    rmsd_before_px: float = Field(description="Distance of observed and predicted positions, root mean square, before.")
    rmsd_after_px: float = Field(description="The same after.")
    n_parts: int = Field(description="Parts of the last level.")
    n_moved: int = Field(description="Parts of the last level with enough spots to be moved.")
    shift_mm: tuple[float, float, float] = Field(description="Mean shift of the panels' centres.")
    largest_shift_mm: float = Field(description="Largest shift of a panel's centre.")


def request(config: RefineDetectorConfig, stills: Sequence[Path], out: Path) -> StepRequest:
    """Describe the refinement.

    Parameters
    ----------
    config
        The parameters.
    stills
        Folders of the stills step.
    out
        Folder for ``refined.expt``, ``shifts.json`` and the manifest.

    Raises
    ------
    InputError
        An input does not exist.
    """
    return StepRequest("refine_detector", config, {"stills": require_paths(tuple(stills), "stills folders")}, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> RefineDetectorSummary:
    """Refine; the ranks share the reading, rank 0 refines.

    Raises
    ------
    InputError
        An input cannot be read, or the lattices were not measured with one detector.
    NothingUsableError
        The inputs hold no lattice with enough spots.
    ConfigError
        The configuration names parts that the detector has not.
    """
    config = request.config
    assert isinstance(config, RefineDetectorConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(RefineDetectorSummary)
        with step.phase("input"):
            pairs = from_root(comm, lambda: _all_pairs(request.inputs["stills"]))
            identifiers = [name for pair in pairs[comm.rank :: comm.size] for name in _identifiers(pair)]
            chosen = set(_evenly(sorted(chain.from_iterable(comm.allgather(identifiers))), config.max_lattices))
            mine = [item for pair in pairs[comm.rank :: comm.size] for item in _lattices(pair, chosen)]
            gathered = comm.gather(mine)
        with step.phase("refine"):
            lattices = sorted(
                (item for part in gathered or () for item in part), key=lambda item: item.experiment.identifier
            )
            summary = from_root(comm, lambda: _conclude(lattices, config, step))
        if comm.rank == 0:
            hooks.note(
                f"{summary.n_lattices} lattices, {summary.n_spots} spots: rmsd {summary.rmsd_before_px:.3f} -> "
                f"{summary.rmsd_after_px:.3f} px, largest shift {summary.largest_shift_mm:.3f} mm"
            )
        return step.finish(summary)


def _all_pairs(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Experiment files and the files of the spots that their lattices index."""
    pairs = []
    for folder in folders:
        if not (folder / MANIFEST_NAME).is_file():
            raise InputError("no manifest of stills", where=folder, hint="give the output folder of exafel stills")
        manifest = read_manifest(folder)
        verify_containers(folder, manifest)
        spots = {path.name: path for path in manifest.files(folder, "indexed")}
        for expt in manifest.files(folder, "expt"):
            name = f"{expt.stem}_indexed.refl"
            if name not in spots:
                raise InputError("the spots that its lattices index are missing", where=expt, hint=f"expected {name}")
            pairs.append((expt, spots[name]))
    return pairs


def _identifiers(pair: tuple[Path, Path]) -> list[str]:
    return [experiment.identifier for experiment in read_expt(pair[0]) if experiment.crystal is not None]


def _evenly(names: list[str], most: int) -> list[str]:
    rows = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(np.int64))
    return [names[row] for row in rows]


def _lattices(pair: tuple[Path, Path], chosen: set[str]) -> Iterator[_Lattice]:
    experiments, table = read_expt(pair[0]), read_refl(pair[1])
    numbers = {identifier: number for number, identifier in table.identifiers.items()}
    for experiment in experiments:
        if experiment.identifier in chosen and experiment.identifier in numbers:
            spots = table.select(table["id"] == numbers[experiment.identifier])
            if len(spots) >= _MIN_SPOTS:
                yield _Lattice(experiment, spots)


def _conclude(lattices: list[_Lattice], config: RefineDetectorConfig, step: StepRun) -> RefineDetectorSummary:
    if not lattices:
        raise NothingUsableError(
            f"the inputs hold no lattice with {_MIN_SPOTS} indexed spots", hint="look at the stills step's summary"
        )
    detector = lattices[0].experiment.detector
    for item in lattices:
        if not _same_geometry(detector, item.experiment.detector):
            raise InputError(
                f"{item.experiment.image.label} was processed with another detector geometry than "
                f"{lattices[0].experiment.image.label}",
                hint="give stills.geometry.reference for all, or refine each geometry by itself",
            )
    common = Counter(_hall(item) for item in lattices).most_common(1)[0][0]
    kept = [item for item in lattices if _hall(item) == common]
    result = refine_jointly(_joint_data(kept, common), detector, config)
    return _write(result, kept, detector, step)


def _hall(item: _Lattice) -> str:
    assert item.experiment.crystal is not None
    return item.experiment.crystal.space_group_hall


def _same_geometry(first: Detector, second: Detector) -> bool:
    if first is second:
        return True
    return len(first) == len(second) and all(
        one.image_size == other.image_size and np.abs(one.d_matrix - other.d_matrix).max() < _SAME_MM
        for one, other in zip(first.panels, second.panels, strict=True)
    )


def _joint_data(lattices: list[_Lattice], hall: str) -> JointData:
    settings, beams = [], []
    for item in lattices:
        assert item.experiment.crystal is not None
        settings.append(item.experiment.crystal.A)
        beams.append(item.experiment.beam.s0 * item.experiment.beam.wavelength_angstrom)
    tables = [item.spots for item in lattices]

    def column(name: str) -> np.ndarray:
        return np.concatenate([table[name] for table in tables])

    return JointData(
        settings=np.stack(settings),
        s0_unit=np.stack(beams),
        hall=hall,
        lattice=np.repeat(np.arange(len(tables)), [len(table) for table in tables]),
        panel=column("panel").astype(np.int64),
        hkl=column("miller_index").astype(np.float64),
        xy_px=column("xyzobs.px.value")[:, :2],
        wave_number=np.linalg.norm(column("s1"), axis=1),
    )


def _write(result: JointResult, lattices: list[_Lattice], before: Detector, step: StepRun) -> RefineDetectorSummary:
    beam: Beam = lattices[0].experiment.beam
    geometry = Experiment("", beam, result.detector, ImageRef(lattices[0].experiment.image.path))
    write_expt(step.out / GEOMETRY_NAME, ExperimentList([geometry]))
    step.add_container(step.out / GEOMETRY_NAME, "geometry", rows=1)
    shifts = _shifts(before, result.detector)
    moved = np.array([item.shift_mm for item in shifts])
    write_json(step.out / SHIFTS_NAME, {"panels": [item.model_dump(mode="json") for item in shifts]})
    step.add_container(step.out / SHIFTS_NAME, "shifts", rows=len(shifts))
    x, y, z = (round(float(value), 6) for value in moved.mean(axis=0))
    return RefineDetectorSummary(
        n_lattices=len(lattices),
        n_spots=result.n_used,
        rmsd_before_px=round(result.rmsd_before_px, 5),
        rmsd_after_px=round(result.rmsd_after_px, 5),
        n_parts=result.n_parts,
        n_moved=result.n_moved,
        shift_mm=(x, y, z),
        largest_shift_mm=round(float(np.linalg.norm(moved, axis=1).max()), 6),
    )


def _shifts(before: Detector, after: Detector) -> list[PanelShift]:
    shifts = []
    for number, (old, new) in enumerate(zip(before.panels, after.panels, strict=True)):
        centre = np.array([[old.image_size[0] / 2, old.image_size[1] / 2]])
        x, y, z = (round(float(value), 6) for value in (new.pixel_to_lab(centre) - old.pixel_to_lab(centre))[0])
        turn = np.column_stack([new.fast_axis, new.slow_axis, new.normal])
        turn = turn @ np.column_stack([old.fast_axis, old.slow_axis, old.normal]).T
        angle = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
        shifts.append(PanelShift(panel=number, name=old.name, shift_mm=(x, y, z), turn_deg=round(angle, 5)))
    return shifts
