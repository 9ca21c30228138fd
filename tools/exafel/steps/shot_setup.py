"""What predict and stage 2 share: refined shots with the forward model that stage 1 used, and its structure factors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np

from exafel.arrays import BoolArray, FloatArray
from exafel.bragg.point_spread import spread_matrix
from exafel.bragg.reflection_set import ReflectionSet, reflection_set, starting_amplitudes
from exafel.bragg.scene import SceneOptions
from exafel.bragg.shot_model import ShotParameters, ShotScene
from exafel.bragg.shot_table import Row
from exafel.bragg.spot_model import parameters_of_row
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.base import validate
from exafel.config.shot_model import PixelModelConfig
from exafel.errors import InputError
from exafel.io.manifest import MANIFEST_NAME, read_manifest
from exafel.io.mtz import ReferenceData
from exafel.steps.lattices import ImagePixels, LatticeRecord


def mtz_file(path: Path) -> Path:
    """Return the MTZ file of a step's folder, or the file itself.

    Raises
    ------
    InputError
        The folder has none.
    """
    if not (path / MANIFEST_NAME).is_file():
        return path
    files = read_manifest(path).files(path, "mtz")
    if not files:
        raise InputError("no MTZ in this folder", where=path, hint="give the folder of a merge step, or an MTZ file")
    return files[0]


def finest(reference: ReferenceData) -> float:
    """Resolution of merged data, angstrom."""
    return float(gemmi.UnitCell(*reference.cell).calculate_d_array(reference.hkl).min())


def known_reflections(
    reference: ReferenceData, group: gemmi.SpaceGroup, d_min: float | None
) -> tuple[ReflectionSet, FloatArray, BoolArray]:
    """All reflections to `d_min`, their amplitudes from merged data, and whether those have them."""
    reflections = reflection_set(reference.cell, group, d_min or finest(reference))
    return reflections, *starting_amplitudes(reflections, reference)


def shell_mean_square(reflections: ReflectionSet, amplitude: FloatArray) -> FloatArray:
    """Mean |F|^2 of each reflection's resolution shell, shape (n,)."""
    shell = reflections.shells()
    count = np.maximum(np.bincount(shell), 1)
    return np.asarray((np.bincount(shell, weights=amplitude**2) / count)[shell])


def shot_scene(
    record: LatticeRecord,
    pixels: ImagePixels,
    table: StructureFactorTable,
    config: PixelModelConfig,
    *,
    mosaic: bool,
    box_px: int,
) -> ShotScene:
    """What of a shot the forward model takes as known; ``oversample: auto`` begins at one subpixel."""
    experiment = record.experiment
    assert experiment.crystal is not None
    subpixels = 1 if config.oversample == "auto" else config.oversample
    pixel_size = experiment.detector[0].pixel_size_mm
    return ShotScene(
        detector=experiment.detector,
        beam=replace(experiment.beam, flux=pixels.beam.flux, spectrum=pixels.beam.spectrum),
        crystal=experiment.crystal,
        structure_factors=table,
        fluence_per_m2=pixels.beam.flux / (config.beam_size_um * 1e-6) ** 2,
        options=SceneOptions(oversample=subpixels, cut=config.cut),
        mosaic_blocks=config.mosaic_blocks if mosaic else 1,
        spread=None if config.psf is None else spread_matrix(box_px, config.psf, pixel_size),
    )


def pixel_model_of(row: Row, where: Path | str) -> PixelModelConfig:
    """Pixel model that stage 1 refined a row with.

    Raises
    ------
    InputError
        The row has none: it is not of this package's stage 1.
    """
    text = row.get("pixel_model")
    if not isinstance(text, str):
        raise InputError("no pixel model in the table of shots", where=where, hint="run stage1 again")
    return validate(PixelModelConfig, json.loads(text), where=where)


def refined_scene(
    record: LatticeRecord, pixels: ImagePixels, table: StructureFactorTable, box_px: int
) -> tuple[ShotScene, ShotParameters, PixelModelConfig]:
    """Return a shot as stage 1 refined it."""
    experiment = record.experiment
    assert experiment.crystal is not None
    config = pixel_model_of(record.row, experiment.image.label)
    parameters = parameters_of_row(record.row, experiment.crystal.cell)
    scene = shot_scene(record, pixels, table, config, mosaic=max(parameters.eta_deg) > 0, box_px=box_px)
    return scene, parameters, config
