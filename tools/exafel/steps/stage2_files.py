"""The files of the stage2 step: refined amplitudes as MTZ, the table of iterations, scales of shots.

Rank 0 writes, kinds of the manifest in brackets:

- ``refined.mtz`` [mtz]: I and F of the reflections that shots have, Bijvoet mates apart;
- ``convergence.csv`` [convergence]: a row an iteration;
- ``iterations.npz`` [iterations]: ln F of every iteration and their indices, where they are kept;
- ``scales.csv`` [scales]: the refined scale of each shot, times that of stage 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import FloatArray
from exafel.bragg.reflection_set import ReflectionSet
from exafel.io.files import atomic_write
from exafel.io.mtz import MergedData, write_mtz


def refined_data(
    reflections: ReflectionSet, amplitude: FloatArray, curvature: FloatArray, counts: FloatArray, wavelength: float
) -> MergedData:
    """Refined reflections as merged data; those that no shot has are left out.

    Parameters
    ----------
    reflections
        What was refined.
    amplitude, curvature, counts
        |F|, expected second derivative of the likelihood by ln F, and number of shots; shape (n,).
    wavelength
        Mean wavelength, angstrom.

    Notes
    -----
    sigma(ln F) is the inverse root of the curvature: the error at fixed other amplitudes.
    """
    seen = (counts > 0) & (curvature > 0)
    intensity = np.where(seen, amplitude**2, np.nan)
    sigma = np.where(seen, 2 * amplitude**2 / np.sqrt(np.where(seen, curvature, 1.0)), np.nan)
    n_asu = int(np.sum(np.arange(len(reflections)) <= reflections.mate))
    plus, minus = np.arange(n_asu), reflections.mate[:n_asu]
    acentric = plus != minus
    pair = np.stack([intensity[plus], np.where(acentric, intensity[minus], np.nan)])
    errors = np.stack([sigma[plus], np.where(acentric, sigma[minus], np.nan)])
    chosen = np.isfinite(pair).any(axis=0)
    pair, errors = pair[:, chosen], errors[:, chosen]
    known = np.isfinite(pair)
    n = known.sum(axis=0)
    return MergedData(
        hkl=reflections.hkl[:n_asu][chosen],
        cell=reflections.cell,
        space_group=reflections.space_group.hm,
        wavelength_angstrom=wavelength,
        intensity=np.nansum(pair, axis=0) / n,
        sigma=np.sqrt(np.nansum(errors**2, axis=0)) / n,
        n_obs=(counts[plus] + np.where(acentric, counts[minus], 0))[chosen],
        intensity_plus=pair[0],
        sigma_plus=errors[0],
        intensity_minus=pair[1],
        sigma_minus=errors[1],
    )


def write_refined(path: Path, data: MergedData, history: str) -> int:
    """Write the MTZ; return its number of reflections."""
    write_mtz(path, data, history=(history,), dataset="stage2")
    return len(data.hkl)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of plain values as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["empty"])
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue().encode())


def write_snapshots(
    path: Path, reflections: ReflectionSet, snapshots: Sequence[FloatArray], counts: FloatArray
) -> None:
    """Write ln F of every iteration, single precision, with indices and numbers of shots."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        hkl=reflections.hkl,
        counts=counts.astype(np.int32),
        ln_f=np.array(snapshots, dtype=np.float32),
    )
    with atomic_write(path) as stream:
        stream.write(content.getvalue())
