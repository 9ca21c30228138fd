"""The five figures of merit of a refined data set, from the folders of its steps."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from pydantic import Field

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.figures import (
    AmplitudeShell,
    AnomalousPeak,
    OffsetShell,
    amplitude_shells,
    anomalous_peaks,
    offset_shells,
    split_offsets,
)
from exafel.bragg.reflection_set import reflection_set, starting_amplitudes
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.config.base import Model
from exafel.config.evaluate import EvaluateSfxConfig
from exafel.errors import InputError
from exafel.io.crystal import space_group_of_hall
from exafel.io.expt import read_expt
from exafel.io.manifest import Manifest, read_manifest
from exafel.io.mtz import read_mtz
from exafel.io.refl import read_refl


class HalfShell(Model):
    """Figure B: agreement of half data sets in one shell, as the merge step has it."""

    d_max: float | None
    d_min: float
    cc_half: float | None
    r_split: float | None


class Iteration(Model):
    """Figures C, D and E at one iteration of stage 2; None where there is nothing to compare with."""

    iteration: int
    sigma_z: float
    r_factor: float | None = None
    cc: float | None = None
    cc_anomalous: float | None = None


class Figures(Model):
    """Figures of merit A to E, of the steps that there are."""

    a_before: tuple[OffsetShell, ...] = Field((), description="Offsets of the stills step's predictions.")
    a_after: tuple[OffsetShell, ...] = Field((), description="And of stage 1's models.")
    b: tuple[HalfShell, ...] = ()
    c_stage1_before: float | None = Field(None, description="Median of sigma(Z) over shots before stage 1.")
    c_stage1_after: float | None = None
    d_start: tuple[AmplitudeShell, ...] = Field((), description="Stage 2's starting amplitudes: all, then shells.")
    d_end: tuple[AmplitudeShell, ...] = Field((), description="Refined amplitudes: all, then shells.")
    iterations: tuple[Iteration, ...] = ()
    e_merged_cc_anomalous: float | None = Field(
        None, description="CC of merged Bijvoet differences with the true ones; stage 2 starts from the mates' mean."
    )
    e_peaks_merged: tuple[AnomalousPeak, ...] = Field((), description="Anomalous map of merged intensities.")
    e_peaks_start: tuple[AnomalousPeak, ...] = Field((), description="Empty where stage 2 starts from equal mates.")
    e_peaks_end: tuple[AnomalousPeak, ...] = ()


def figures_of(
    folders: Mapping[str, Path], truth: StructureFactorTable | None, config: EvaluateSfxConfig, model: Path | None
) -> Figures:
    """Compute the figures.

    Parameters
    ----------
    folders
        Folders of the steps ``stills``, ``merge``, ``stage1`` and ``stage2``, those that there are.
    truth
        True |F|^2, Bijvoet mates apart; None: no figures against truth.
    config
        Parameters.
    model
        Coordinates for the anomalous map; None: no peaks.

    Raises
    ------
    InputError
        A folder cannot be read.
    """
    found: dict[str, Any] = {}
    manifests = {name: read_manifest(path) for name, path in folders.items()}
    if "stills" in folders and "stage1" in folders:
        found["a_before"] = _offsets(folders["stills"], manifests["stills"], "indexed", config.shells)
    if "stage1" in folders:
        found["a_after"] = _offsets(folders["stage1"], manifests["stage1"], "refl", config.shells)
        summary = manifests["stage1"].summary
        found["c_stage1_before"], found["c_stage1_after"] = summary.get("sigz_before"), summary.get("sigz_after")
    if "merge" in folders:
        keys = tuple(HalfShell.model_fields)
        shells = manifests["merge"].summary.get("shells") or []
        found["b"] = tuple(HalfShell(**{key: shell.get(key) for key in keys}) for shell in shells)
        found |= _merged(manifests["merge"].files(folders["merge"], "mtz")[0], truth, config, model)
    if "stage2" in folders:
        found |= _refined(folders["stage2"], manifests["stage2"], truth, config, model)
    return Figures(**found)


def _merged(
    path: Path, truth: StructureFactorTable | None, config: EvaluateSfxConfig, model: Path | None
) -> dict[str, Any]:
    """Figure E of merged data with Bijvoet mates apart: of the positive intensities."""
    merged = read_mtz(path, "I(+)")
    positive = merged.value > 0
    hkl, amplitude = merged.hkl[positive], np.sqrt(merged.value[positive])
    d = np.asarray(gemmi.UnitCell(*merged.cell).calculate_d_array(hkl), dtype=np.float64)
    found: dict[str, Any] = {}
    if truth is not None:
        for overall in amplitude_shells(hkl, amplitude, d, truth, 1)[:1]:
            found["e_merged_cc_anomalous"] = overall.cc_anomalous
    if model is not None and len(d):
        found["e_peaks_merged"] = anomalous_peaks(hkl, amplitude, model, float(d.min()), config.anomalous_elements)
    return found


def _offsets(folder: Path, manifest: Manifest, kind: str, n_shells: int) -> tuple[OffsetShell, ...]:
    experiments = manifest.files(folder, "expt")
    tables = {path.stem.removesuffix("_indexed"): path for path in manifest.files(folder, kind)}
    parts: list[FloatArray] = []
    for path in experiments:
        if path.stem not in tables:
            continue
        table = read_refl(tables[path.stem])
        for number, experiment in enumerate(read_expt(path)):
            parts.append(split_offsets(experiment, table.select(table["id"] == number)))
    return offset_shells(np.concatenate([np.empty((0, 3)), *parts]), n_shells)


def _refined(
    folder: Path,
    manifest: Manifest,
    truth: StructureFactorTable | None,
    config: EvaluateSfxConfig,
    model: Path | None,
) -> dict[str, Any]:
    rows = _convergence(manifest.files(folder, "convergence")[0])
    found: dict[str, Any] = {
        "iterations": tuple(Iteration(iteration=int(row["iteration"]), sigma_z=float(row["sigma_z"])) for row in rows)
    }
    snapshots = manifest.files(folder, "iterations")
    if not snapshots:
        return found
    with np.load(snapshots[0], allow_pickle=False) as content:
        hkl, ln_f, seen = content["hkl"], content["ln_f"].astype(np.float64), content["counts"] > 0
    cell = read_mtz(manifest.files(folder, "mtz")[0]).cell
    d = np.asarray(gemmi.UnitCell(*cell).calculate_d_array(hkl), dtype=np.float64)
    hkl, d, amplitudes = hkl[seen], d[seen], np.exp(ln_f[:, seen])
    best = int(manifest.summary["best_iteration"])
    if truth is not None:
        found["d_start"] = amplitude_shells(hkl, amplitudes[0], d, truth, config.shells)
        found["d_end"] = amplitude_shells(hkl, amplitudes[best], d, truth, config.shells)
        found["iterations"] = tuple(_iterations(found["iterations"], hkl, amplitudes, d, truth))
    if model is not None:
        place = (model, float(d.min()), config.anomalous_elements)
        found["e_peaks_start"] = anomalous_peaks(hkl, amplitudes[0], *place)
        found["e_peaks_end"] = anomalous_peaks(hkl, amplitudes[best], *place)
    return found


def _iterations(
    rows: Iterable[Iteration], hkl: AnyArray, amplitudes: FloatArray, d: FloatArray, truth: StructureFactorTable
) -> Iterable[Iteration]:
    for row, amplitude in zip(rows, amplitudes, strict=True):
        overall = amplitude_shells(hkl, amplitude, d, truth, 1)[0]
        yield row.model_copy(
            update={"r_factor": overall.r_factor, "cc": overall.cc, "cc_anomalous": overall.cc_anomalous}
        )


def _convergence(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def true_table(path: Path) -> StructureFactorTable:
    """True |F|^2 with Bijvoet mates apart where the file has both.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    reference = read_mtz(path)
    group = space_group_of_hall(reference.space_group)
    finest = float(gemmi.UnitCell(*reference.cell).calculate_d_array(reference.hkl).min())
    reflections = reflection_set(reference.cell, group, finest)
    amplitude, known = starting_amplitudes(reflections, reference)
    if not known.any():
        raise InputError("no amplitudes", where=path)
    return reflections.table(np.where(known, amplitude, 0.0))
