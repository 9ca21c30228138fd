"""Which shots show a particle, and which of them just one: lit pixels, photons, background, and size.

The size is that of the sphere whose scattering is likeliest on the rings of a shot, I(s) ∝ [3 (sin x - x cos x) / x³]²
with x = π D s (Rayleigh 1911, Proc. R. Soc. A 84, 25), on a flat part that is fitted too: enough to tell a particle
from two, or from another kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray
from exafel.config.spi import SpiHitsConfig
from exafel.spi.grids import Pixels

LABELS = ("single", "multiple", "other_size", "blank", "damaged")
_SIZES = 200
_FLAT = (0.01, 0.03, 0.1, 0.2, 0.4, 0.6)


class Rings:
    """Pixels in rings of equal width in |s|, and the scattering of spheres on them.

    Parameters
    ----------
    pixels
        All good pixels.
    n
        Number of rings.
    """

    def __init__(self, pixels: Pixels, n: int = 40) -> None:
        last = pixels.length.max()
        self._ring = np.minimum((pixels.length / last * n).astype(np.int64), n - 1)
        self._counts = np.bincount(self._ring, minlength=n)
        middle = np.bincount(self._ring, weights=pixels.length, minlength=n) / np.maximum(self._counts, 1)
        self.sizes = np.geomspace(0.7 / last, 0.5 / max(pixels.length.min(), last / 400), _SIZES)
        x = np.pi * np.outer(self.sizes, np.maximum(middle, 1e-9))
        sphere = np.where(x < 0.02, 1 - x * x / 5, (3 * (np.sin(x) - x * np.cos(x)) / x**3) ** 2)
        smooth = np.maximum(sphere, 3 / (1 + x) ** 4 * 0.3)  # no particle is so round that its minima are dark
        share = smooth * self._counts
        share = share / share.sum(axis=1, keepdims=True)
        flat = self._counts / self._counts.sum()  # what atoms and background scatter evenly
        model = np.concatenate([(1 - part) * share + part * flat for part in _FLAT])
        self._log = np.log(np.maximum(model, 1e-12))

    def profiles(self, photons: AnyArray) -> FloatArray:
        """Photons of every shot on every ring, shape (shots, rings)."""
        result = np.zeros((len(photons), len(self._counts)))
        for row, shot in enumerate(photons):
            result[row] = np.bincount(self._ring, weights=shot, minlength=len(self._counts))
        return result

    def likeliest_sizes(self, profiles: FloatArray) -> FloatArray:
        """Diameter of the likeliest sphere of every shot, angstrom."""
        best = np.argmax(np.maximum(profiles, 0) @ self._log.T, axis=1)
        return np.asarray(self.sizes[best % len(self.sizes)], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Features:
    """What is measured on every shot, shape (shots,); a shot that cannot be read has NaN photons."""

    lit: FloatArray
    photons: FloatArray
    profiles: FloatArray

    @staticmethod
    def of(photons: Float32Array, rings: Rings, config: SpiHitsConfig) -> Features:
        """Measure shots, shape (shots, pixels)."""
        good = np.asarray(np.isfinite(photons).all(axis=1))
        d = np.where(good[:, None], photons, 0)
        total = np.where(good, d.sum(axis=1, dtype=np.float64), np.nan)
        return Features((d >= config.lit_photons).sum(axis=1).astype(np.float64), total, rings.profiles(d))

    def bright(self, config: SpiHitsConfig) -> BoolArray:
        """Shots with enough lit pixels and photons to be hits."""
        return np.asarray((self.lit >= config.min_lit_pixels) & (np.nan_to_num(self.photons) >= config.min_photons))


def background_chi2(photons: Float32Array, background: FloatArray) -> FloatArray:
    """Mean of (d - b)² / b over pixels that see background, of every shot; 1 on average where there is nothing else."""
    seen = background > 0
    if not seen.any():
        return np.full(len(photons), np.inf)
    d = photons[:, seen].astype(np.float64)
    return np.asarray((((d - background[seen]) ** 2) / background[seen]).mean(axis=1), dtype=np.float64)


def chi2_limit(background: FloatArray, sigma: float) -> float:
    """Value of chi2 that Poisson noise of the background alone exceeds by `sigma` deviations."""
    b = background[background > 0]
    if not len(b):
        return 0.0
    variance = float((2 + 1 / b).sum()) / len(b) ** 2  # of (d - b)² / b for Poisson d: 2 + 1/b
    return float(1 + sigma * variance**0.5)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Label, size in angstrom and photons relative to the median single, of every shot."""

    label: AnyArray
    size_angstrom: FloatArray
    scale: FloatArray
    size_range: tuple[float, float]


def label(features: Features, chi2: FloatArray, limit: float, rings: Rings, config: SpiHitsConfig) -> Labelled:
    """Give every shot its label."""
    damaged = ~np.isfinite(features.photons)
    hit = features.bright(config) & (np.nan_to_num(chi2, nan=0.0) > limit) & ~damaged
    size = np.full(len(hit), np.nan)
    scale = np.full(len(hit), np.nan)
    labels = np.full(len(hit), "blank", dtype=object)
    labels[damaged] = "damaged"
    if not hit.any():
        return Labelled(labels, size, scale, (0.0, 0.0))
    size[hit] = rings.likeliest_sizes(features.profiles[hit])
    middle = float(np.median(size[hit]))
    low, high = config.size_range_angstrom or (
        middle * (1 - config.size_tolerance),
        middle * (1 + config.size_tolerance),
    )
    right = hit & (size >= low) & (size <= high)
    usual = float(np.median(features.photons[right])) if right.any() else float(np.median(features.photons[hit]))
    scale[hit] = features.photons[hit] / usual
    labels[hit] = "other_size"
    labels[right] = "single"
    labels[right & (np.nan_to_num(scale) > config.multiple_photons)] = "multiple"
    return Labelled(labels, size, scale, (low, high))
