"""Integration by summation and by profile: an elliptical foreground on a plane background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, FloatArray
from exafel.config.integration import IntegrationConfig, SignificanceFilterConfig
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.reflections import Flag, ReflectionTable
from exafel.stills.pixels import kernel_pixels
from exafel.stills.profile import SpotProfile, foreground_shapes

_COLUMNS = {
    "intensity.sum.value": "intensity",
    "intensity.sum.variance": "variance",
    "background.mean": "background_mean",
    "background.sum.value": "background_sum",
    "background.sum.variance": "background_variance",
    "background.mse": "background_mse",
    "num_pixels.foreground": "n_foreground",
    "num_pixels.valid": "n_valid",
    "num_pixels.background": "n_background",
    "num_pixels.background_used": "n_background_used",
}
_PROFILE_COLUMNS = {
    "intensity.prf.value": "profile_intensity",
    "intensity.prf.variance": "profile_variance",
    "profile.correlation": "profile_correlation",
}


def integrate(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    predicted: ReflectionTable,
    profile: SpotProfile,
    detector: Detector,
    beam: Beam,
    config: IntegrationConfig,
    *,
    gain: float,
) -> ReflectionTable:
    """Integrate predicted reflections by summation, and by profile where the configuration asks for it.

    Parameters
    ----------
    frames, masks
        Pixels, and True where they are good, one array of shape (slow, fast) a panel.
    predicted
        From `exafel.stills.prediction.predict_reflections`; of all the shot's lattices at once, so that no pixel of
        one is background of another.
    profile
        Size of the spots.
    gain
        Counts (ADU) a photon, on top of the panels' own gain.

    Returns
    -------
    ReflectionTable
        The predicted rows with ``intensity.sum.value`` and ``.variance``, ``background.*``, ``num_pixels.*``, ``bbox``,
        ``xyzobs.px.value`` and ``.variance``, ``xyzobs.mm.value`` and ``.variance``, ``partiality`` (1), and the flag
        INTEGRATED_SUM where that succeeded; see `exafel.io.reflections.Flag` for the reasons where not. With profiles
        also ``intensity.prf.value`` and ``.variance``, ``profile.correlation`` and the flag INTEGRATED_PRF.

    Notes
    -----
    The variance is gain (|I| + |B| (1 + m/n)) with B the background under the m pixels of the foreground, from n
    pixels (Leslie 1999, Acta Cryst. D55, 1696, eq. 9). The profile is the Gaussian of the shot's spots about their
    predictions, its intensity a least-squares fit with the variances that the fit itself expects (Kabsch 1988, J. Appl.
    Cryst. 21, 916; Leslie 1999, section 4).
    """
    shapes = foreground_shapes(predicted, profile, detector, beam, n_sigma=config.n_sigma)
    panel_numbers = predicted["panel"].astype(np.int64)
    results: dict[str, AnyArray] = {}
    for number in np.unique(panel_numbers):
        rows = np.flatnonzero(panel_numbers == number)
        measured = _integrate_panel(frames[number], masks[number], shapes[rows], detector[int(number)], config, gain)
        for name, values in measured.items():
            results.setdefault(name, np.zeros(len(predicted), dtype=values.dtype))[rows] = values
    table = predicted.select(np.arange(len(predicted)))
    if results:
        _fill(table, results, detector, config)
    return table


def _integrate_panel(
    frame: AnyArray, mask: BoolArray, shapes: FloatArray, panel: Panel, config: IntegrationConfig, gain: float
) -> dict[str, AnyArray]:
    return _kernels.integrate_panel(
        kernel_pixels(frame),
        mask,
        np.ascontiguousarray(shapes),
        gain=gain * panel.gain,
        outlier_sigma=config.outlier_sigma,
        max_rejections=config.max_rejections,
        min_background=config.min_background_pixels,
        gap=config.background_gap,
        background=config.background_width,
        min_width_px=config.min_background_width_px,
        profile_sigma=config.n_sigma if config.profile_fitting else 0.0,
    )


def _fill(table: ReflectionTable, results: dict[str, AnyArray], detector: Detector, config: IntegrationConfig) -> None:
    n = len(table)
    for name, source in _COLUMNS.items():
        table[name] = results[source]
    if config.profile_fitting:
        for name, source in _PROFILE_COLUMNS.items():
            table[name] = results[source]
    zero, one = np.zeros(n, dtype=np.int32), np.ones(n, dtype=np.int32)
    table["bbox"] = np.column_stack([results[name] for name in ("x0", "x1", "y0", "y1")] + [zero, one])
    table["partiality"] = np.ones(n)
    table["partial_id"] = np.arange(n, dtype=np.uint64)
    good = results["status"] == 0
    table["flags"] = _flags(table["flags"], results, good, config)
    observed = np.where(good[:, None], np.column_stack([results["x"], results["y"]]), table["xyzcal.px"][:, :2])
    variance = np.column_stack([results["x_variance"], results["y_variance"]])
    table["xyzobs.px.value"] = np.column_stack([observed, np.full(n, 0.5)])
    table["xyzobs.px.variance"] = np.column_stack([variance, np.zeros(n)])
    observed_mm, variance_mm = np.zeros((n, 3)), np.zeros((n, 3))
    for number in np.unique(table["panel"]):
        rows, panel = table["panel"] == number, detector[int(number)]
        observed_mm[rows, :2] = panel.pixel_to_mm(observed[rows])
        variance_mm[rows, :2] = variance[rows] * np.square(panel.pixel_size_mm)
    table["xyzobs.mm.value"], table["xyzobs.mm.variance"] = observed_mm, variance_mm


def _flags(before: AnyArray, results: dict[str, AnyArray], good: BoolArray, config: IntegrationConfig) -> AnyArray:
    overlap = results["n_overlapped"] / np.maximum(results["n_foreground"], 1)
    too_much = overlap > config.max_overlap
    flags = before.astype(np.uint64)
    for chosen, flag in (
        (results["n_overlapped"] > 0, Flag.OVERLAPPED_FG),
        (results["status"] == 1, Flag.FOREGROUND_INCLUDES_BAD_PIXELS | Flag.FAILED_DURING_SUMMATION),
        (results["status"] == 2, Flag.FAILED_DURING_BACKGROUND_MODELLING),
        (too_much, Flag.DONT_INTEGRATE),
        (good & ~too_much, Flag.INTEGRATED_SUM),
        (good & ~too_much & config.profile_fitting, Flag.INTEGRATED_PRF),
    ):
        flags[chosen] |= np.uint64(flag)
    return flags


def signal_limit(table: ReflectionTable) -> float | None:
    """Resolution to which the mean I/sigma of the shells stays at 1 or above, angstrom; None where the first is below.

    Shells and ratio are those of the significance filter's defaults.
    """
    kept = table["d"][significant(table, SignificanceFilterConfig())]
    return float(kept.min()) if len(kept) else None


def significant(table: ReflectionTable, config: SignificanceFilterConfig) -> BoolArray:
    """Which reflections lie below the resolution at which a lattice's mean I/sigma first falls under the cut-off, (n,).

    Bins have equal volumes of reciprocal space; empty ones do not count.
    """
    s3 = table["d"] ** -3.0
    edges = np.linspace(0.0, s3.max(initial=0.0) * (1 + 1e-9), config.n_bins + 1)
    which = np.digitize(s3, edges) - 1
    ratio = table["intensity.sum.value"] / np.sqrt(np.maximum(table["intensity.sum.variance"], 1e-12))
    count = np.bincount(which, minlength=config.n_bins)
    mean = np.bincount(which, weights=ratio, minlength=config.n_bins) / np.maximum(count, 1)
    weak = np.flatnonzero((count > 0) & (mean < config.isigi_cutoff))
    return np.asarray(which < weak[0]) if len(weak) else np.ones(len(table), dtype=bool)
