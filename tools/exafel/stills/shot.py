"""One shot from pixels to integrated lattices; whatever happens to it is a result, with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from exafel.config.stills import StillsConfig
from exafel.errors import ConfigError, ExafelError, FrameError
from exafel.io.events import Emit, Stage, no_event
from exafel.io.experiment import Experiment, ImageRef, experiment_identifier
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.indexing import index_shot
from exafel.stills.integration import integrate, significant
from exafel.stills.lattice import Lattice
from exafel.stills.prediction import predict_reflections
from exafel.stills.profile import SpotProfile, estimate_profile
from exafel.stills.reader import Shot, ShotReader
from exafel.stills.spotfinding import find_spots, spot_resolution_limit


class Outcome(StrEnum):
    """How far a shot came."""

    READ_FAILED = "read_failed"
    NO_HIT = "no_hit"
    NOT_INDEXED = "not_indexed"
    REFINE_FAILED = "refine_failed"
    INTEGRATE_FAILED = "integrate_failed"
    INTEGRATED = "integrated"


@dataclass(frozen=True, eq=False)
class IntegratedLattice:
    """One lattice of a shot, integrated.

    Parameters
    ----------
    experiment
        Its models.
    integrated, indexed
        Its integrated reflections, and the strong spots that it indexes; ``id`` is 0 in both.
    rmsd_px, rmsd_delta_psi_deg
        Root mean square distance of observed and calculated spot positions, and of the reflections from the Ewald
        sphere.
    mosaicity_degenerate
        The spots do not determine the domain size: the fit ran to a bound.
    """

    experiment: Experiment
    integrated: ReflectionTable
    indexed: ReflectionTable
    rmsd_px: float
    rmsd_delta_psi_deg: float
    mosaicity_degenerate: bool = False


@dataclass(eq=False)
class ShotResult:
    """What became of one shot.

    Parameters
    ----------
    outcome, reason
        How far it came, and why no farther.
    n_spots
        Number of its strong spots.
    d_min_spots
        Resolution that its strong spots reach (see `spot_resolution_limit`), angstrom; None without spots.
    spots
        Its strong spots; empty where they were not to be kept.
    lattices
        Those integrated.
    sigma_px
        Standard deviations of the spot profile, radial and tangential.
    cpu_s
        CPU seconds by phase.
    """

    number: int
    image: ImageRef
    outcome: Outcome = Outcome.NO_HIT
    reason: str = ""
    n_spots: int = 0
    d_min_spots: float | None = None
    spots: ReflectionTable = field(default_factory=ReflectionTable)
    lattices: list[IntegratedLattice] = field(default_factory=list)
    sigma_px: tuple[float, float] | None = None
    cpu_s: dict[str, float] = field(default_factory=dict)


class _ShotError(Exception):
    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def process_shot(reader: ShotReader, number: int, config: StillsConfig, emit: Emit = no_event) -> ShotResult:
    """Process one shot.

    Parameters
    ----------
    reader
        Reads shots; one that cannot be read is a result too.
    number
        Which shot it is.
    config
        The parameters.
    emit
        Hears of every stage.

    Returns
    -------
    ShotResult
        Depends on the shot and the configuration alone.

    Raises
    ------
    ConfigError
        The configuration cannot work for any shot (see `exafel.steps.stills.request`, which finds that out early).
    """
    result = ShotResult(number, reader.image(number))
    emit(Stage.START, number, 0, "")
    try:
        with _timed(result, "read"):
            shot = _read(reader, number)
        lattices = _find_lattices(shot, config, result, emit)
        with _timed(result, "integrate"), _failing_as(Outcome.INTEGRATE_FAILED):
            result.lattices = _integrate(shot, lattices, config, result)
        emit(Stage.INTEGRATE, number, sum(len(item.integrated) for item in result.lattices), "")
        result.outcome = Outcome.INTEGRATED
        emit(Stage.DONE, number, len(result.lattices), "")
    except _ShotError as failure:
        result.outcome, result.reason = failure.outcome, failure.reason
        emit(Stage.FAIL, number, result.n_spots, failure.outcome.value)
    return result


def _read(reader: ShotReader, number: int) -> Shot:
    try:
        return reader.read(number)
    except FrameError as error:
        raise _ShotError(Outcome.READ_FAILED, error.what) from error


def _find_lattices(shot: Shot, config: StillsConfig, result: ShotResult, emit: Emit) -> list[Lattice]:
    with _timed(result, "spotfind"), _failing_as(Outcome.NO_HIT):
        result.spots = find_spots(shot.frames, shot.masks, shot.detector, shot.beam, config.spotfinding)
    result.n_spots = len(result.spots)
    result.d_min_spots = spot_resolution_limit(result.spots["d"])
    emit(Stage.SPOTFIND, shot.number, result.n_spots, "")
    if result.n_spots < config.spotfinding.min_spots:
        raise _ShotError(Outcome.NO_HIT, f"fewer than {config.spotfinding.min_spots} spots")
    with _timed(result, "index"), _failing_as(Outcome.REFINE_FAILED):
        lattices = index_shot(result.spots, shot.detector, shot.beam, config.indexing)
    emit(Stage.INDEX, shot.number, len(lattices), "")
    if not lattices:
        raise _ShotError(Outcome.NOT_INDEXED, "no lattice indexes enough spots")
    return lattices


def _integrate(
    shot: Shot, lattices: list[Lattice], config: StillsConfig, result: ShotResult
) -> list[IntegratedLattice]:
    settings = config.integration
    indexed = ReflectionTable.concatenate([lattice.reflections for lattice in lattices])
    profile = estimate_profile(indexed, shot.detector, shot.beam, min_sigma_px=settings.min_sigma_px)
    result.sigma_px = (profile.radial_px, profile.tangential_px)
    if max(result.sigma_px) > settings.max_sigma_px:
        raise _ShotError(
            Outcome.INTEGRATE_FAILED, f"spots spread more than {settings.max_sigma_px} px about their predictions"
        )
    predicted = []
    for number, lattice in enumerate(lattices):
        table = predict_reflections(
            lattice.crystal, shot.detector, shot.beam, d_min=settings.d_min, envelope=settings.envelope
        )
        table["id"] = np.full(len(table), number, dtype=np.int32)
        predicted.append(table)
    joined = ReflectionTable({name: np.concatenate([table[name] for table in predicted]) for name in predicted[0]})
    gain = config.spotfinding.gain if settings.gain is None else settings.gain
    measured = integrate(shot.frames, shot.masks, joined, profile, shot.detector, shot.beam, settings, gain=gain)
    finished: list[IntegratedLattice] = []
    for number, lattice in enumerate(lattices):
        table = measured.select((measured["id"] == number) & measured.has_flag(Flag.INTEGRATED_SUM))
        if settings.significance_filter is not None:
            table = table.select(significant(table, settings.significance_filter))
        if len(table):
            finished.append(_finish(shot, lattice, table, profile, len(finished), settings.n_sigma))
    if not finished:
        raise _ShotError(Outcome.INTEGRATE_FAILED, "no reflection could be integrated")
    return finished


def _finish(
    shot: Shot, lattice: Lattice, table: ReflectionTable, profile: SpotProfile, number: int, n_sigma: float
) -> IntegratedLattice:
    identifier = experiment_identifier(shot.image, number)
    experiment = Experiment(
        identifier=identifier,
        beam=shot.beam,
        detector=shot.detector,
        image=shot.image,
        crystal=lattice.crystal,
        profile=profile.as_dials(shot.detector, n_sigma),
    )
    table["id"] = np.zeros(len(table), dtype=np.int32)
    indexed = lattice.reflections.select(np.arange(len(lattice.reflections)))
    del indexed["moments.px"]
    for item in (table, indexed):
        item.identifiers = {0: identifier}
    return IntegratedLattice(
        experiment,
        table,
        indexed,
        rmsd_px=float(np.hypot(*lattice.rmsd_px)),
        rmsd_delta_psi_deg=lattice.rmsd_delta_psi_deg,
        mosaicity_degenerate=lattice.mosaicity.degenerate,
    )


@contextmanager
def _timed(result: ShotResult, phase: str) -> Iterator[None]:
    start = time.process_time()
    try:
        yield
    finally:
        result.cpu_s[phase] = time.process_time() - start


@contextmanager
def _failing_as(outcome: Outcome) -> Iterator[None]:
    """Turn what can go wrong with one shot's data into its outcome; a wrong configuration stays an error."""
    try:
        yield
    except ConfigError:
        raise
    except (ExafelError, np.linalg.LinAlgError) as error:
        raise _ShotError(outcome, error.what if isinstance(error, ExafelError) else str(error)) from error
