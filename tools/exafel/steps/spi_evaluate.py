"""Compare a reconstruction of single particles with the truth that the shots were simulated from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from exafel.arrays import AnyArray
from exafel.config.base import Model
from exafel.config.spi import SpiEvaluateConfig
from exafel.errors import InputError, NothingUsableError
from exafel.io.manifest import read_manifest, verify_containers
from exafel.io.mrc import read_mrc
from exafel.io.spi_file import SpiShots
from exafel.parallel.comm import Communicator
from exafel.spi.evaluate import class_of_conformation, compare_density, confusion, orientation_errors_by_class
from exafel.spi.particles import read_particles
from exafel.spi.rotations import point_group
from exafel.steps.base import QUIET, Hooks, StepRequest, require_paths
from exafel.steps.evaluation import EvaluationSummary, run_evaluation
from exafel.steps.spi_reconstruct import shot_files

STEP = "spi_evaluate"


class DensitySummary(Model):
    """One conformation's map against its structure."""

    conformation: int
    class_number: int
    fsc_half_angstrom: float | None = Field(description="Resolution at which the correlation with the truth is 0.5.")
    fsc_0143_angstrom: float | None = Field(description="At which it is 0.143.")
    intensity_correlation: float
    inverted: bool
    s: tuple[float, ...]
    fsc: tuple[float | None, ...]


class Summary(EvaluationSummary):
    """Figures of merit; orientations are modulo symmetry, global frame and the half-turn about the beam."""

    orientation_median_deg: float
    orientation_mean_deg: float
    within_5_deg: float
    within_10_deg: float
    orientation_cumulative: tuple[tuple[float, float], ...] = Field(description="(degrees, share of images below).")
    class_accuracy: float | None = None
    confusion: tuple[tuple[int, ...], ...] = Field((), description="True conformations in rows, classes in columns.")
    densities: tuple[DensitySummary, ...] = ()


def request(config: SpiEvaluateConfig, reconstruction: Path, images: Sequence[Path], out: Path) -> StepRequest:
    """Say what is to be compared.

    Parameters
    ----------
    reconstruction
        Folder of a spi reconstruct step.
    images
        The shots that it was made from, with ``orientations`` in them.
    """
    inputs = {
        "reconstruction": require_paths((reconstruction,), "reconstructions"),
        "images": require_paths(tuple(images), "images"),
        "structures": tuple(Path(name) for name in config.structures),
    }
    return StepRequest(STEP, config, inputs, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:  # noqa: ARG001 - every step's signature
    """Compare, on rank 0; the figures go to ``evaluation.json`` and into the summary.

    Raises
    ------
    InputError
        An input cannot be read, or has no truth.
    """
    config = request.config
    assert isinstance(config, SpiEvaluateConfig)
    return run_evaluation(request, comm, Summary, lambda: _evaluate(request, config))


def _evaluate(request: StepRequest, config: SpiEvaluateConfig) -> Summary:
    folder = request.inputs["reconstruction"][0]
    manifest = read_manifest(folder)
    verify_containers(folder, manifest)
    table = pd.read_csv(manifest.files(folder, "images")[0])
    shots = SpiShots([file for path in request.inputs["images"] for file in shot_files(path)])
    orientations = shots.truth("orientations")
    if orientations is None:
        raise InputError("the shots have no true orientations", where=request.inputs["images"][0])
    rows = table["shot"].to_numpy()
    if rows.max() >= len(shots):
        raise InputError("the reconstruction is of other shots", where=folder)
    true = orientations[rows]
    known = np.isfinite(true).all(axis=1)
    if not known.any():
        raise NothingUsableError("no image has a true orientation", where=request.inputs["images"][0])
    table, true, rows = table[known], true[known], rows[known]
    classes = table["class"].to_numpy()
    found = table[["qw", "qx", "qy", "qz"]].to_numpy(dtype=np.float64)
    errors = orientation_errors_by_class(found, true, classes, point_group(config.symmetry))
    conformations = shots.truth("conformations")
    kinds = np.zeros(len(rows), dtype=np.int64) if conformations is None else conformations[rows].astype(np.int64)
    counts = confusion(classes, kinds)
    pairing = class_of_conformation(counts)
    right = sum(int(counts[row, column]) for row, column in enumerate(pairing) if column >= 0)
    good = errors[np.isfinite(errors)]
    return Summary(
        n=len(rows),
        orientation_median_deg=round(float(np.median(good)), 4),
        orientation_mean_deg=round(float(good.mean()), 4),
        within_5_deg=round(float((good < 5).mean()), 4),
        within_10_deg=round(float((good < 10).mean()), 4),
        orientation_cumulative=_cumulative(good),
        class_accuracy=round(right / len(rows), 5) if counts.size > 1 else None,
        confusion=tuple(tuple(int(x) for x in row) for row in counts) if counts.size > 1 else (),
        densities=_densities(folder, pairing, config),
    )


def _cumulative(errors: AnyArray) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(np.quantile(errors, q)), 4), round(float(q), 3)) for q in np.linspace(0, 1, 51))


def _densities(folder: Path, pairing: Sequence[int], config: SpiEvaluateConfig) -> tuple[DensitySummary, ...]:
    particles = [item for name in config.structures for item in read_particles(Path(name))]
    maps = read_manifest(folder).files(folder, "density")
    result = []
    for conformation, particle in enumerate(particles):
        number = pairing[conformation] if conformation < len(pairing) else -1
        if number < 0:
            continue
        density, voxel = read_mrc(maps[number])
        agreement = compare_density(density, particle, voxel, config.d_align_angstrom)
        curve = agreement.fsc
        result.append(
            DensitySummary(
                conformation=conformation,
                class_number=number,
                fsc_half_angstrom=curve.resolution(0.5),
                fsc_0143_angstrom=curve.resolution(0.143),
                intensity_correlation=round(agreement.correlation, 5),
                inverted=agreement.inverted,
                s=tuple(round(float(s), 7) for s in curve.s),
                fsc=tuple(round(float(v), 5) if np.isfinite(v) else None for v in curve.value),
            )
        )
    return tuple(result)
