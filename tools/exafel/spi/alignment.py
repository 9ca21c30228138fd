"""Bring reconstructions into one frame: rotation by intensities, then hand and shift of densities; and orientations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from exafel.arrays import AnyArray, FloatArray
from exafel.spi.backend import Backend
from exafel.spi.fsc import Curve
from exafel.spi.grids import Cube, Pixels
from exafel.spi.rotations import about_z, angle_deg, conjugate, from_vectors, matrices, multiply, spiral_quaternions
from exafel.spi.slicing import batches, slices

_RADII, _DIRECTIONS = 10, 60


def _probes(diameter_angstrom: float, d_min_angstrom: float) -> Pixels:
    """Points on spheres between the first fringe and a resolution, evenly spread over a hemisphere."""
    n = np.arange(_DIRECTIONS) + 0.5
    z, phi = n / _DIRECTIONS, np.pi * (1 + 5**0.5) * n
    across = np.sqrt(1 - z * z)
    unit = np.stack([across * np.cos(phi), across * np.sin(phi), z])
    radii = np.linspace(min(1.0 / diameter_angstrom, 0.5 / d_min_angstrom), 0.96 / d_min_angstrom, _RADII)
    s = (radii[:, None, None] * unit).transpose(1, 0, 2).reshape(3, -1)
    return Pixels(s, np.arange(s.shape[1]))


def _standard(views: AnyArray) -> FloatArray:
    """Values with mean 0 and deviation 1 on every sphere, shape (n, radii · directions): a product is a correlation."""
    x = np.asarray(views, dtype=np.float64).reshape(len(views), _RADII, _DIRECTIONS)
    x = x - x.mean(axis=2, keepdims=True)
    x = x / np.maximum(np.sqrt((x * x).mean(axis=2, keepdims=True)), 1e-20)
    return np.asarray(x.reshape(len(views), -1) / np.sqrt(x[0].size))


@dataclass(frozen=True, eq=False)
class Turn:
    """Rotation that carries the second model's frame into the first's, and the correlation of intensities then.

    `curve` is the correlation by sphere.
    """

    quaternion: FloatArray
    correlation: float
    curve: Curve


def align_intensities(
    first: AnyArray,
    second: AnyArray,
    cube: Cube,
    diameter_angstrom: float,
    backend: Backend,
    start: FloatArray | None = None,
    d_min_angstrom: float = 0.0,
) -> Turn:
    """Find the rotation between two autocorrelations by the mean correlation of intensities on spheres.

    Parameters
    ----------
    first, second
        Autocorrelations, shape (m, m, m), on the device.
    start
        A rotation near the right one; without it, all rotations are tried.
    d_min_angstrom
        Resolution to compare to, if that of the cube is not wanted.

    Returns
    -------
    The rotation q for which second(R(q)^T k) is nearest to first(k).
    """
    probes = _probes(diameter_angstrom, max(d_min_angstrom, cube.d_min_angstrom))
    target = _standard(backend.host(slices([first], np.array([[1.0, 0, 0, 0]]), cube, probes, backend)[0]))[0]
    rng = np.random.default_rng(20)

    def scores(q: FloatArray) -> FloatArray:
        parts = [
            _standard(backend.host(slices([second], q[rows], cube, probes, backend)[0])) @ target
            for rows in batches(len(q), len(probes))
        ]
        return np.concatenate(parts)

    sigma = np.radians(6.0)
    best = spiral_quaternions(2500) if start is None else np.asarray(start)[None]
    value = scores(best)
    while sigma > np.radians(0.05):
        top = best[np.argsort(-value)[: 6 if sigma > 0.03 else 2]]
        trials = np.concatenate([top, *(multiply(q, from_vectors(rng.normal(scale=sigma, size=(40, 3)))) for q in top)])
        best, value = trials, scores(trials)
        sigma *= 0.5
    found = int(np.argmax(value))
    product = target * _standard(backend.host(slices([second], best[[found]], cube, probes, backend)[0]))[0]
    by_sphere = product.reshape(_RADII, _DIRECTIONS).sum(axis=1) * _RADII
    return Turn(best[found], float(value[found]), Curve(probes.length[::_DIRECTIONS], by_sphere))


@dataclass(frozen=True, eq=False)
class Placed:
    """A density brought onto another: its real FFT there, whether its hand was changed, and the correlation."""

    transform: AnyArray
    inverted: bool
    correlation: float


def place_density(first: AnyArray, second: AnyArray, turn: FloatArray, cube: Cube, backend: Backend) -> Placed:
    """Rotate a density, and find its hand and shift, so that it lies on another one.

    Parameters
    ----------
    first
        Real FFT of the density that stays, shape (m, m, m // 2 + 1), on the host.
    second
        Density to be moved, shape (m, m, m), on the host.
    turn
        Rotation by `align_intensities`.
    """
    moved = rotated_transform(second, turn, cube, backend)
    best: Placed | None = None
    weight = np.abs(first)
    for inverted, F in ((False, moved), (True, np.conj(moved))):
        shifted = _shifted(first, F, cube)
        value = float((first * np.conj(shifted)).real.sum() / max(float((weight * np.abs(shifted)).sum()), 1e-30))
        if best is None or value > best.correlation:
            best = Placed(shifted, inverted, value)
    assert best is not None
    return best


def rotated_transform(density: AnyArray, turn: FloatArray, cube: Cube, backend: Backend) -> AnyArray:
    """Real FFT of a density in a turned frame, F(R^T k), zero beyond the resolution; shape (m, m, m // 2 + 1)."""
    m = cube.m
    inside = cube.half_radius <= m / 2
    line = np.fft.fftfreq(m) * m
    grid = np.stack(np.meshgrid(line, line, np.arange(m // 2 + 1), indexing="ij"))[:, inside]
    points = (matrices(np.asarray(turn)).T @ grid) * (2 * np.pi / m)
    values = backend.nufft.type2(
        backend.array(-points), backend.array(density, dtype=backend.xp.complex64)
    )  # the FFT has exp(-ikx)
    result = np.zeros(inside.shape, dtype=np.complex64)
    result[inside] = backend.host(values)
    return result


def _shifted(first: AnyArray, F: AnyArray, cube: Cube) -> AnyArray:
    """F with the shift that brings its density onto the first's, to a fraction of a voxel."""
    m = cube.m
    cross = scipy.fft.irfftn(first * np.conj(F), s=(m, m, m))
    peak = np.array(np.unravel_index(int(np.argmax(cross)), cross.shape))
    fine = peak + np.array([_vertex(cross, peak, axis) for axis in range(3)])
    line = np.fft.fftfreq(m)
    phase = (
        np.exp(-2j * np.pi * fine[0] * line)[:, None, None]
        * np.exp(-2j * np.pi * fine[1] * line)[None, :, None]
        * np.exp(-2j * np.pi * fine[2] * np.arange(m // 2 + 1) / m)
    )
    return np.asarray(F * phase)


def _vertex(values: AnyArray, peak: AnyArray, axis: int) -> float:
    """Offset of a parabola's vertex from the largest value along an axis."""
    step = np.eye(3, dtype=int)[axis]
    low, mid, high = (values[tuple((peak + i * step) % len(values))] for i in (-1, 0, 1))
    bend = low - 2 * mid + high
    return float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def orientation_errors(
    found: FloatArray, true: FloatArray, symmetry: FloatArray, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Angles between found and true orientations, after the global rotation that makes their median least.

    They are modulo the particle's symmetry and the half-turn about the beam, which a flat Ewald sphere cannot tell.

    Parameters
    ----------
    found, true
        Quaternions, shape (n, 4).
    symmetry
        Rotations of the particle in the frame of `true`.

    Returns
    -------
    angles
        Degrees, shape (n,).
    frame
        Rotation G of R_found = R_true G, a quaternion.
    """
    rng = np.random.default_rng(seed)
    half = np.stack([np.array([1.0, 0, 0, 0]), about_z(np.pi)])

    def errors(frame: FloatArray, rows: AnyArray) -> FloatArray:
        expected = true[rows][:, None] if frame.ndim > 1 else true[rows]
        back = multiply(found[rows][:, None] if frame.ndim > 1 else found[rows], conjugate(frame))
        return np.asarray(np.min([angle_deg(expected, multiply(h, back), symmetry) for h in half], axis=0))

    some = rng.permutation(len(found))[: min(len(found), 150)]
    candidates = np.concatenate([multiply(conjugate(true[some]), multiply(h, found[some])) for h in half])
    medians = np.median(errors(candidates, some[:80]), axis=0)
    frame = candidates[int(np.argmin(medians))]
    everything = np.arange(len(found))
    for sigma in (3.0, 1.5, 0.7, 0.3):
        trials = np.concatenate(
            [frame[None], multiply(frame, from_vectors(rng.normal(scale=np.radians(sigma), size=(40, 3))))]
        )
        frame = trials[int(np.argmin(np.median(errors(trials, some), axis=0)))]
    return errors(frame, everything), frame
