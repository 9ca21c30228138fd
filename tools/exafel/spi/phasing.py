"""Phase: the density whose transform has the merged amplitudes, by iterated projections.

With P_M the projection on the measured amplitudes and P_S that on support and positivity (Fienup 1982, Appl. Opt. 21,
2758; Elser 2003, J. Opt. Soc. Am. A 20, 40; Luke 2005, Inverse Problems 21, 37; Marchesini 2003, Phys. Rev. B 68,
140101 for shrinkwrap):

    ER    ρ' = P_S P_M ρ
    HIO   ρ' = P_M ρ within the support and where positive, else ρ - β P_M ρ
    RAAR  ρ' = ½β (R_S R_M ρ + ρ) + (1 - β) P_M ρ with R = 2P - 1
    DM    ρ' = ρ + P_S (2 P_M ρ - ρ) - P_M ρ
    SF    ρ' = 2 P_S P_M ρ - P_M ρ: what is outside changes its sign (solvent flipping; Abrahams & Leslie 1996, Acta
          Cryst. D 52, 30; as a projection algorithm Marchesini 2007, Rev. Sci. Instrum. 78, 011301)

Noisy amplitudes A are not those of any density, and a full P_M drags a search away from the phases. P_M is relaxed to
F' = (w A / |F| + 1 - w) F, with w = 1 out to half of the resolution and falling from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from exafel.arrays import AnyArray, BoolArray, DeviceArray, Float32Array, FloatArray
from exafel.spi.backend import Backend
from exafel.spi.grids import Cube
from exafel.spi.symmetry import symmetrised_density

Algorithm = Literal["er", "hio", "raar", "dm", "sf"]


@dataclass(frozen=True)
class Pass:
    """Some iterations of one algorithm, and whether the support is drawn anew after them."""

    algorithm: Algorithm
    iterations: int
    shrinkwrap: bool = False


@dataclass(frozen=True, eq=False)
class PhasingOptions:
    """How phases are found.

    Parameters
    ----------
    passes
        In their order.
    beta
        Feedback of HIO and RAAR.
    sigma_voxels
        Blur before the support is drawn anew.
    threshold
        Fraction of the blurred density's largest value that its border is at.
    positive
        Whether negative density is forbidden.
    volume_voxels
        Voxels of the support after it is drawn anew, those of the largest blurred density: the content of solvent is
        known. Else it is where the threshold is passed.
    group
        Rotations of a point group, shape (order, 4), over which a random start is averaged, the density whenever the
        support is drawn anew, and at the end.
    """

    passes: tuple[Pass, ...]
    beta: float = 0.9
    sigma_voxels: float = 1.0
    threshold: float = 0.1
    positive: bool = True
    volume_voxels: int | None = None
    group: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Phased:
    """A density, its support, and how well its amplitudes agree with the measured ones.

    `density` and `support` are of shape (m, m, m) with the origin in the middle; `r_factor` is Σ|A - |F|| / ΣA over
    measured amplitudes.
    """

    density: AnyArray
    support: BoolArray
    r_factor: float


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """Measured amplitudes at the points of a real FFT, and how far each is imposed: 1 is wholly, 0 is not measured."""

    values: AnyArray
    weight: AnyArray

    @staticmethod
    def of_autocorrelation(a: AnyArray, cube: Cube, backend: Backend, edge_weight: float = 1.0) -> Amplitudes:
        """Square roots of the intensities, known within the sphere of resolution; negative ones count as zero.

        Weights are 1 out to half of its radius, and fall linearly to `edge_weight` at the edge.
        """
        xp = backend.xp
        intensities = backend.rfftn(xp.fft.ifftshift(a)).real
        s = cube.half_radius / (cube.m / 2)
        weight = np.where(s <= 1, 1 - (1 - edge_weight) * np.clip(2 * s - 1, 0, 1), 0)
        on_device = backend.array(weight, dtype=np.float32)
        return Amplitudes(xp.sqrt(xp.maximum(intensities, 0)) * (on_device > 0), on_device)


class Phaser:
    """Iterations on one cube.

    Parameters
    ----------
    amplitudes
        What is measured.
    limit
        Voxels that the support can never leave, shape (m, m, m), origin in the middle.
    """

    def __init__(
        self, amplitudes: Amplitudes, limit: BoolArray, cube: Cube, options: PhasingOptions, backend: Backend
    ) -> None:
        xp = backend.xp
        self._a = amplitudes
        self._target, self._free = amplitudes.values * amplitudes.weight, 1 - amplitudes.weight
        self._measured = amplitudes.weight > 0
        self._limit = xp.fft.ifftshift(backend.array(limit, dtype=xp.bool_))
        self._cube, self._options, self._backend = cube, options, backend
        # where intermediate results go: new arrays of this size cost more than what is computed in them
        self._size = xp.empty_like(self._free)
        self._squares = xp.empty((*self._free.shape, 2), dtype=np.float32)
        self._real = xp.empty(self._limit.shape, dtype=np.float32)
        self._mask = xp.empty(self._limit.shape, dtype=xp.bool_)

    def run(self, density: AnyArray | None, support: AnyArray | None, rng: np.random.Generator) -> Phased:
        """Run all passes.

        Parameters
        ----------
        density, support
            Where to begin; None for random density in the widest support.
        """
        xp, backend = self._backend.xp, self._backend
        inside = self._limit if support is None else xp.fft.ifftshift(backend.array(support, dtype=xp.bool_))
        if density is None:
            # symmetric from the beginning: else every symmetric average throws away most of what was found before it
            rho = self._symmetrised(backend.array(rng.random(inside.shape, dtype=np.float32)) * inside)
        else:
            rho = xp.fft.ifftshift(backend.array(density))  # a copy
        for item in self._options.passes:
            for _ in range(item.iterations):
                rho = self._step(item.algorithm, rho, inside)
            if item.shrinkwrap:
                rho = self._symmetrised(rho)
                inside = self._shrinkwrap(rho)
        if self._options.group is not None:
            rho = self._symmetrised(self._project_support(rho, inside))
            inside = self._shrinkwrap(rho)
        projected = self._project_support(self._project_amplitudes(rho)[0], inside)
        r_factor = self._project_amplitudes(projected)[1]
        return Phased(xp.fft.fftshift(projected), xp.fft.fftshift(inside), r_factor)

    def _step(self, algorithm: Algorithm, rho: AnyArray, inside: AnyArray) -> DeviceArray:
        """Do one iteration; `rho` is overwritten."""
        xp = self._backend.xp
        g = self._project_amplitudes(rho, want_r=False)[0]
        beta = np.float32(self._options.beta)
        if algorithm == "er":
            return self._project_support(g, inside)
        if algorithm == "hio":
            keep = self._allowed(g, inside)
            xp.multiply(g, beta, out=self._real)
            rho -= self._real
        elif algorithm == "raar":
            # where the reflected density 2g - ρ is allowed all terms but g cancel, elsewhere its projection is 0
            keep = inside
            if self._options.positive:
                xp.add(g, g, out=self._real)
                keep = xp.greater(self._real, rho, out=self._mask)
                keep &= inside
            rho *= beta
            rho += xp.multiply(g, 1 - 2 * beta, out=self._real)
        elif algorithm == "sf":
            keep = self._allowed(g, inside)
            xp.negative(g, out=rho)
        else:
            return rho + self._project_support(2 * g - rho, inside) - g
        xp.copyto(rho, g, where=keep)
        return rho

    def _allowed(self, g: AnyArray, inside: AnyArray) -> DeviceArray:
        if not self._options.positive:
            return inside
        keep = self._backend.xp.greater(g, 0, out=self._mask)
        keep &= inside
        return keep

    def _project_support(self, g: AnyArray, inside: AnyArray) -> DeviceArray:
        return g * self._allowed(g, inside)

    def _project_amplitudes(self, rho: AnyArray, *, want_r: bool = True) -> tuple[DeviceArray, float]:
        xp, size = self._backend.xp, self._size
        F = self._backend.rfftn(rho)
        parts = F.view(np.float32).reshape(*F.shape, 2)
        squares = xp.multiply(parts, parts, out=self._squares)
        xp.add(squares[..., 0], squares[..., 1], out=size)  # faster than abs, which guards against overflow
        xp.sqrt(size, out=size)
        r_factor = 0.0
        if want_r:
            difference = (xp.abs(size - self._a.values) * self._measured).sum(dtype=np.float64)
            r_factor = float(difference) / max(float(self._a.values.sum(dtype=np.float64)), 1e-300)
        xp.maximum(size, np.float32(1e-18), out=size)
        xp.divide(self._target, size, out=size)
        size += self._free
        F *= size
        return self._backend.irfftn_of_scratch(F, self._cube.m), r_factor

    def _symmetrised(self, rho: AnyArray) -> DeviceArray:
        if self._options.group is None:
            return rho
        backend, shift = self._backend, self._backend.xp.fft
        density = backend.host(shift.fftshift(rho))
        return shift.ifftshift(backend.array(symmetrised_density(density, self._cube, self._options.group, backend)))

    def _shrinkwrap(self, rho: AnyArray) -> DeviceArray:
        backend = self._backend
        blurred = gaussian_filter(np.abs(backend.host(rho)), self._options.sigma_voxels, mode="wrap")
        blurred = backend.array(blurred) * self._limit
        border = self._options.threshold * blurred.max()
        if self._options.volume_voxels is not None:
            n = min(self._options.volume_voxels, int(self._limit.sum()))
            border = backend.xp.partition(blurred.ravel(), -n)[-n] * np.float32(1 - 1e-6)
        inside = blurred > border
        return inside if int(inside.sum()) > 8 else self._limit


def autocorrelation(density: AnyArray, cube: Cube, backend: Backend) -> Float32Array:
    """Autocorrelation of a density, real and even, shape (m, m, m), origin in the middle."""
    xp = backend.xp
    F = backend.rfftn(xp.fft.ifftshift(density))
    a = backend.irfftn((F * F.conj()).real + 0j, cube.m)
    result: Float32Array = xp.fft.fftshift(a).astype(np.float32)
    return result


def best_of(phased: Sequence[Phased]) -> Phased:
    """The one with the least R-factor."""
    return min(phased, key=lambda item: item.r_factor)
