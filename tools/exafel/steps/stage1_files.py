"""The files of the stage1 step: refined lattices, their spots, and the table with a row a shot.

A rank writes, kinds of the manifest in brackets:

- ``rank-NNNNN.expt`` and ``rank-NNNNN.refl`` [expt, refl]: the refined lattices and the spots that refined them, with
  ``xyzcal.px`` where the model's photons lie;
- ``rank-NNNNN.pkl`` or ``.parquet`` [table]: one row a lattice, see `row_of`;
- ``rank-NNNNN_shots.jsonl`` [shots]: what became of every lattice of the input.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exafel.bragg.scene import spectrum_channels
from exafel.bragg.shot_model import ShotScene
from exafel.bragg.shot_table import SUFFIXES, Row, write_table
from exafel.bragg.stage1 import Stage1Fit
from exafel.config.shot_model import PixelModelConfig
from exafel.config.stage1 import Stage1Config
from exafel.io.experiment import Experiment, ExperimentList
from exafel.io.expt import write_expt
from exafel.io.files import atomic_write
from exafel.io.refl import write_refl
from exafel.io.reflections import ReflectionTable
from exafel.steps.base import StepRun
from exafel.steps.lattices import Corrections

_TALLIED = ("sigz", "sigz_init", "ncells", "flags", "niter", "spot_fwhm_px", "oversample")


@dataclass(frozen=True, eq=False)
class RefinedShot:
    """One lattice after stage 1: refined, or why not.

    Parameters
    ----------
    number
        Number of the lattice in the inputs.
    experiment
        Its models, refined where that worked.
    reason
        Why it was not refined; empty where it was.
    row, spots
        Its row of the table, without the names of files, and its spots; empty where it was not refined.
    cpu_s
        CPU seconds that it took.
    """

    number: int
    experiment: Experiment
    reason: str = ""
    row: Row = field(default_factory=dict)
    spots: ReflectionTable = field(default_factory=ReflectionTable)
    cpu_s: float = 0.0


def row_of(
    experiment: Experiment, scene: ShotScene, fit: Stage1Fit, corrections: Corrections, config: Stage1Config
) -> Row:
    """One shot's row by hopper's names, and after those, ours.

    ``Amats`` is A (columns a*, b*, c*, 1/angstrom) by rows; ``rotX`` to ``rotZ`` are radians; ``eta_abc`` degrees.
    """
    refined, start = fit.parameters, fit.start
    wavelengths, _ = spectrum_channels(scene.beam)
    crystal = scene.refined_crystal(refined)
    names = ("a", "b", "c", "al", "be", "ga")
    return {
        "spot_scales": refined.scale,
        "Amats": tuple(crystal.A.ravel().tolist()),
        "ncells": refined.n_cells,
        "spot_scales_init": start.scale,
        "ncells_init": start.n_cells,
        "eta_abc": refined.eta_deg,
        "detz_shift_mm": refined.detector_z_mm,
        "ncells_def": (0.0, 0.0, 0.0),
        "diffuse_gamma": (1.0, 1.0, 1.0),
        "diffuse_sigma": (1.0, 1.0, 1.0),
        "fp_fdp_shift": 0.0,
        "use_diffuse_models": False,
        "gamma_miller_units": False,
        "eta": float(np.mean(refined.eta_deg)),
        **dict(zip(("rotX", "rotY", "rotZ"), refined.turns_rad, strict=True)),
        **dict(zip(names, refined.cell, strict=True)),
        **{f"{name}_init": value for name, value in zip(names, start.cell, strict=True)},
        "lam0": 0.0,
        "lam1": 1.0,
        "spectrum_filename": "",
        "spectrum_stride": 1,
        "total_flux": scene.beam.flux,
        "beamsize_mm": config.beam_size_um * 1e-3,
        "spectrum_from_imageset": len(wavelengths) > 1,
        "oversample": scene.options.oversample,
        "stage1_output_img": "",
        "sigz": fit.sigma_z,
        "niter": fit.n_evaluations,
        "phi_deg": 0.0,
        "osc_deg": 0.0,
        "B_factor": refined.b_factor,
        "sigz_init": fit.sigma_z_before,
        "spot_fwhm_px": fit.spot_fwhm_px,
        "intensity_error": fit.intensity_error,
        "n_spots": len(fit.boxes),
        "n_pixels": fit.n_pixels,
        "mosaic_blocks": scene.mosaic_blocks,
        "flags": " ".join(fit.flags),
        "identifier": experiment.identifier,
        "image": experiment.image.path.name,
        "image_index": experiment.image.index or 0,
        "pixel_model": PixelModelConfig.model_validate(
            config.model_dump(include=set(PixelModelConfig.model_fields)) | {"oversample": scene.options.oversample}
        ).model_dump_json(),
        "image_corrections": corrections.model_dump_json(),
    }


@dataclass
class Tally:
    """Numbers of this rank's lattices that the summary is made of."""

    n: int = 0
    reasons: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    cpu_s: float = 0.0


def write_results(shots: Iterable[RefinedShot], config: Stage1Config, step: StepRun) -> Tally:
    """Write this rank's containers and record them; return the numbers for the summary."""
    tally, experiments = Tally(), ExperimentList()
    spots: list[ReflectionTable] = []
    rows: list[Row] = []
    stem = step.out / f"rank-{step.comm.rank:05d}"
    listing = stem.with_name(f"{stem.name}_shots.jsonl")
    with atomic_write(listing) as stream:
        for shot in sorted(shots, key=lambda item: item.number):
            tally.n += 1
            tally.cpu_s += shot.cpu_s
            tally.reasons += [shot.reason] if shot.reason else []
            stream.write(json.dumps(_listed(shot)).encode() + b"\n")
            if shot.row:
                rows.append(_with_files(shot.row, str(stem), len(rows)))
                experiments.append(shot.experiment)
                spots.append(shot.spots)
    step.add_container(listing, "shots", rows=tally.n)
    tally.rows = [{name: row[name] for name in _TALLIED} for row in rows]
    if rows:
        write_expt(stem.with_suffix(".expt"), experiments)
        step.add_container(stem.with_suffix(".expt"), "expt", rows=len(rows))
        table = ReflectionTable.concatenate(spots)
        write_refl(stem.with_suffix(".refl"), table)
        step.add_container(stem.with_suffix(".refl"), "refl", rows=len(table))
        path = stem.with_suffix(SUFFIXES[config.table_format])
        write_table(path, rows)
        step.add_container(path, "table", rows=len(rows))
    return tally


def _with_files(row: Row, stem: str, number: int) -> Row:
    """Add where the lattice lies: number `number` of the containers."""
    files = {"exp_name": f"{stem}.expt", "opt_exp_name": f"{stem}.expt", "stage1_refls": f"{stem}.refl"}
    return {**row, **files, "exp_idx": number}


def _listed(shot: RefinedShot) -> dict[str, Any]:
    experiment, row = shot.experiment, shot.row
    return {
        "lattice": shot.number,
        "identifier": experiment.identifier,
        "image": experiment.image.label,
        "refined": bool(row),
        "reason": shot.reason,
        "flags": row.get("flags", ""),
        "sigz_init": row.get("sigz_init"),
        "sigz": row.get("sigz"),
        "cpu_s": round(shot.cpu_s, 4),
    }
