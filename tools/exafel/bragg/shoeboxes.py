"""Boxes of pixels around spots, and the planes of their background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from exafel.io.geometry import Detector


@dataclass(frozen=True, eq=False)
class Shoeboxes:
    """Square boxes of pixels around spots, all wholly on their panel.

    Parameters
    ----------
    corners
        Panel, first fast and first slow pixel, shape (n, 3).
    size
        Pixels of a side.
    data
        Photons, shape (n, size, size): slow, then fast.
    good
        Where a pixel can be trusted, same shape.
    rows
        Which of the given spots each box is, shape (n,).
    """

    corners: Int32Array
    size: int
    data: FloatArray
    good: BoolArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.corners)

    def pixels(self) -> Int32Array:
        """Panel, fast and slow of every pixel, shape (n, size, size, 3)."""
        return box_pixels(self.corners, self.size)

    def select(self, chosen: AnyArray) -> Shoeboxes:
        """Boxes by a mask or by numbers."""
        return Shoeboxes(
            self.corners[chosen], self.size, self.data[chosen], self.good[chosen], np.asarray(self.rows[chosen])
        )


def box_pixels(corners: Int32Array, size: int) -> Int32Array:
    """Panel, fast and slow of every pixel of boxes (see `Shoeboxes`), shape (n, size, size, 3)."""
    pixels = np.empty((len(corners), size, size, 3), dtype=np.int32)
    step = np.arange(size, dtype=np.int32)
    pixels[..., 0] = corners[:, 0, None, None]
    pixels[..., 1] = corners[:, 1, None, None] + step[None, None, :]
    pixels[..., 2] = corners[:, 2, None, None] + step[None, :, None]
    return pixels


def cut_shoeboxes(
    frames: Sequence[AnyArray],
    masks: Sequence[BoolArray],
    detector: Detector,
    panel: AnyArray,
    xy_px: FloatArray,
    size: int,
    *,
    gain: float,
    min_good: float = 0.7,
) -> Shoeboxes:
    """Cut boxes around spots; those over an edge, or with too few good pixels, are left out.

    Parameters
    ----------
    frames, masks
        Pixels, and True where they can be trusted, one array of shape (slow, fast) a panel.
    panel, xy_px
        Panel, and fast and slow position in pixels, of the spots; shapes (n,) and (n, 2).
    size
        Pixels of a side.
    gain
        Counts a photon, on top of the panels' own gain.
    min_good
        Part of a box's pixels that must be good.
    """
    corners = np.column_stack([panel, np.floor(xy_px - (size - 1) / 2)]).astype(np.int32)
    sizes = np.array([item.image_size for item in detector.panels])[corners[:, 0]]
    inside = np.all((corners[:, 1:] >= 0) & (corners[:, 1:] + size <= sizes), axis=1)
    rows = np.flatnonzero(inside)
    data, good = np.empty((len(rows), size, size)), np.empty((len(rows), size, size), dtype=bool)
    for box, row in enumerate(rows):
        number, fast, slow = corners[row]
        window = np.s_[slow : slow + size, fast : fast + size]
        data[box] = frames[number][window] / (gain * detector.panels[number].gain)
        good[box] = masks[number][window]
    data[~good] = 0
    enough = good.mean(axis=(1, 2)) >= min_good
    return Shoeboxes(corners[rows], size, data, good, rows).select(enough)


def central(size: int, radius_px: float) -> BoolArray:
    """Where a box's pixels lie within a radius of its centre, shape (size, size)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(x**2 + y**2 <= radius_px**2)


@dataclass(frozen=True, eq=False)
class Planes:
    """Background planes a + b x + c y of boxes, x and y from the box's centre in pixels.

    Parameters
    ----------
    coefficients
        Shape (n, 3), photons a pixel.
    rms
        Root mean square residual of the pixels used, shape (n,), photons.
    good
        Whether enough pixels were left and the plane is positive in the whole box, shape (n,).
    """

    coefficients: FloatArray
    rms: FloatArray
    good: BoolArray

    def values(self, size: int) -> FloatArray:
        """Photons a pixel, shape (n, size, size)."""
        return np.asarray(self.coefficients @ _plane_terms(size)).reshape(-1, size, size)


def fit_planes(data: FloatArray, usable: BoolArray, *, rounds: int = 4, outlier_sigma: float = 3.0) -> Planes:
    """Fit a plane to the background of each box; pixels more than `outlier_sigma` off are left out, round by round.

    Parameters
    ----------
    data
        Photons, shape (n, size, size).
    usable
        Where a pixel may be background, same shape.
    rounds, outlier_sigma
        Fits, and what is left out between them: by the larger of Poisson's and the observed deviation.
    """
    n, size = data.shape[0], data.shape[1]
    terms = _plane_terms(size)
    values, used = data.reshape(n, size * size), usable.reshape(n, size * size).copy()
    coefficients, rms = np.zeros((n, 3)), np.zeros(n)
    for _ in range(rounds):
        weight = used.astype(np.float64)
        normal = np.einsum("np,ip,jp->nij", weight, terms, terms) + 1e-9 * np.eye(3)
        right = np.einsum("np,ip,np->ni", weight, terms, np.where(used, values, 0.0))
        coefficients = np.linalg.solve(normal, right[..., None])[..., 0]
        plane = coefficients @ terms
        residual = np.where(used, values - plane, 0.0)
        rms = np.sqrt(np.sum(residual**2, axis=1) / np.maximum(weight.sum(axis=1) - 3, 1))
        expected = np.sqrt(np.maximum(plane, 0) + 1)
        limit = outlier_sigma * np.maximum(expected, np.minimum(rms[:, None], 3 * expected))
        used &= np.abs(residual) <= limit
    plane = coefficients @ terms
    good = (used.sum(axis=1) >= max(10, size * size // 10)) & (plane.min(axis=1) >= 0)
    return Planes(coefficients, rms, good)


def _plane_terms(size: int) -> FloatArray:
    """One, x and y of every pixel of a box, shape (3, size * size)."""
    centred = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(centred, centred, indexing="ij")
    return np.array([np.ones(size * size), x.ravel(), y.ravel()])
