"""Strong pixels: by the index of dispersion of their window, or against the other pixels of their scattering angle."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray
from exafel.config.spotfinding import SpotFindingConfig
from exafel.io.geometry import Beam, Detector
from exafel.stills.pixel_maps import two_sine_theta

_MAX_RINGS = 65536  # a ring's number has 16 bits
_MIN_RING_PIXELS = 10  # with fewer good pixels a ring's own spots would pass for its background
_ROW_STEP = 4  # a part of the rows is enough for all rounds but the last

_known_rings: WeakKeyDictionary[Detector, tuple[tuple[bytes, float], tuple[AnyArray, ...]]] = WeakKeyDictionary()


def strong_pixels_of_shot(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    detector: Detector,
    beam: Beam,
    config: SpotFindingConfig,
) -> list[AnyArray]:
    """Flat numbers of the strong pixels of each panel, ascending.

    Parameters
    ----------
    frames
        Pixels as `exafel.stills.pixels.kernel_pixels` gives them, one array of shape (slow, fast) a panel.
    masks
        True where a pixel is good, one array a panel.
    """
    if config.algorithm == "radial":
        return radial_strong_pixels(frames, masks, detector, beam, config)
    return [
        dispersion_strong_pixels(frame, mask, config, gain=config.gain * panel.gain)
        for panel, frame, mask in zip(detector.panels, frames, masks, strict=True)
    ]


def dispersion_strong_pixels(image: AnyArray, mask: BoolArray, config: SpotFindingConfig, *, gain: float) -> AnyArray:
    """Flat numbers of the strong pixels of one panel by a dispersion threshold, ascending, shape (n,).

    ``dispersion``: a good pixel of value I in a window with N good pixels of mean m and variance v is strong where
    v/m > gain (1 + sigma_background sqrt(2/(N-1))), I > m + sigma_strong sqrt(gain m) and I > global_threshold.

    ``dispersion_extended``: the first condition alone marks a region; eroded by the smaller half width of the window
    it is what may be signal. A pixel of it is strong where I >= m' + sigma_strong sqrt(gain m') and
    I > global_threshold, with m' the mean of the good pixels outside of it in a window wider by 2 px on each side.

    Notes
    -----
    Winter et al. (2018), Acta Cryst. D74, 85-97; the extended form as DIALS defines it.
    """
    return _kernels.strong_pixels(
        image,
        mask,
        kernel_fast=config.kernel_size[0],
        kernel_slow=config.kernel_size[1],
        sigma_background=config.sigma_background,
        sigma_strong=config.sigma_strong,
        global_threshold=config.global_threshold,
        min_count=config.min_local,
        gain=gain,
        extended=config.algorithm == "dispersion_extended",
    )


def radial_strong_pixels(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    detector: Detector,
    beam: Beam,
    config: SpotFindingConfig,
) -> list[AnyArray]:
    """Strong pixels of each panel by the statistics of their ring, flat numbers, ascending.

    A ring holds the good pixels of all panels whose scattering angle is the same to `ring_width_px`. Its mean m and
    standard deviation s are found in `ring_iterations` rounds, each without the pixels that the round before calls
    strong: those above max(m + sigma_strong max(s, sqrt(gain m)), global_threshold).

    Notes
    -----
    The idea is that of the hit finder of Barty et al. (2014), J. Appl. Cryst. 47, 1118-1131: at an XFEL the background
    of a solution is strong but isotropic, so a whole ring tells it better than a small window.
    """
    rings = ring_numbers(detector, beam, config.ring_width_px)
    gain = config.gain * detector[0].gain
    limit = np.full(_MAX_RINGS, np.inf, dtype=np.float32)
    for round_number in range(1, config.ring_iterations + 1):
        step = 1 if round_number == config.ring_iterations else _ROW_STEP
        limit = _limits(frames, masks, rings, limit, config, gain, step)
    return [
        _kernels.pixels_above_rings(frame, mask, ring, limit)
        for frame, mask, ring in zip(frames, masks, rings, strict=True)
    ]


def ring_numbers(detector: Detector, beam: Beam, width_px: float) -> Sequence[AnyArray]:
    """Ring of every pixel, by its scattering angle, uint16 of shape (slow, fast), one array a panel."""
    mark = (beam.direction.tobytes(), width_px)
    kept = _known_rings.get(detector)
    if kept is None or kept[0] != mark:
        panel = detector[0]
        per_angle = abs(panel.distance_mm) / (min(panel.pixel_size_mm) * width_px)
        chords = two_sine_theta(detector, beam)
        kept = mark, tuple(_rings_of_panel(chord, per_angle) for chord in chords)
        _known_rings[detector] = kept
    return kept[1]


def _rings_of_panel(chord: Float32Array, per_angle: float) -> AnyArray:
    two_theta = 2.0 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0))
    return np.asarray(np.minimum(per_angle * two_theta, _MAX_RINGS - 1), dtype=np.uint16)


def _limits(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    rings: Sequence[AnyArray],
    limit: Float32Array,
    config: SpotFindingConfig,
    gain: float,
    row_step: int,
) -> Float32Array:
    """Value above which a pixel of each ring is strong, given the pixels up to the present limit."""
    sums = np.zeros((_MAX_RINGS, 4, 4))  # the operating system gives memory to the rings in use only
    for frame, mask, ring in zip(frames, masks, rings, strict=True):
        _kernels.ring_sums(frame, mask, ring, limit, sums, row_step)
    n_rings = 1 + max(int(ring.max(initial=0)) for ring in rings)
    count, total, squares, _ = sums[:n_rings].sum(axis=1).T
    result = np.full(_MAX_RINGS, np.inf, dtype=np.float32)
    result[:n_rings] = _limit(count, total, squares, config, gain)
    return result


def _limit(
    count: FloatArray, total: FloatArray, squares: FloatArray, config: SpotFindingConfig, gain: float
) -> FloatArray:
    mean = total / np.maximum(count, 1.0)
    variance = np.maximum(squares / np.maximum(count, 1.0) - mean**2, gain * np.maximum(mean, 0.0))
    limit = np.maximum(mean + config.sigma_strong * np.sqrt(variance), config.global_threshold)
    return np.where(count >= _MIN_RING_PIXELS, limit, np.inf)
