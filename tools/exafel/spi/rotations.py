"""Orientations as unit quaternions (w, x, y, z): sampling, composition, distances modulo a point group.

A quaternion q stands for the rotation R(q) that carries the particle's frame into the laboratory's. A pixel at
scattering vector s sees the particle's intensity at R(q)^T s.
"""

from __future__ import annotations

import re

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import ConfigError

_GOLDEN = (1 + 5**0.5) / 2


def random_quaternions(n: int, rng: np.random.Generator) -> FloatArray:
    """Uniform random orientations, shape (n, 4) (Shoemake 1992, Graphics Gems III: normalised Gaussians)."""
    q = rng.normal(size=(n, 4))
    return np.asarray(q / np.linalg.norm(q, axis=1, keepdims=True), dtype=np.float64)


def spiral_quaternions(n: int) -> FloatArray:
    """Orientations that cover all rotations evenly, shape (n, 4): the super-Fibonacci spiral.

    Alexa 2022, "Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3)", CVPR.
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(n) + 0.5
    r, big_r = np.sqrt(s / n), np.sqrt(1 - s / n)
    alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    return np.column_stack([r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)])


def multiply(a: FloatArray, b: FloatArray) -> FloatArray:
    """Hamilton product a b, broadcasting over leading axes: R(a b) = R(a) R(b)."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b), -1, 0)
    product = np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )
    return np.asarray(product, dtype=np.float64)


def conjugate(q: FloatArray) -> FloatArray:
    """Inverse of unit quaternions."""
    return np.asarray(np.asarray(q) * np.array([1.0, -1.0, -1.0, -1.0]), dtype=np.float64)


def matrices(q: AnyArray) -> AnyArray:
    """Rotation matrices of unit quaternions, shape (..., 3, 3); of the arrays' own kind and precision."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    result = q[..., :3, None] * q[..., None, :3]  # an array of the right kind and shape
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            result[..., i, j] = value
    return result


def from_vectors(v: FloatArray) -> FloatArray:
    """Quaternions of rotation vectors (axis times angle in radians), shape (..., 3) to (..., 4)."""
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    half = np.sinc(angle / (2 * np.pi)) / 2  # sin(angle/2) / angle
    return np.concatenate([np.cos(angle / 2), half * v], axis=-1)


def about_z(angle: float) -> FloatArray:
    """Rotation about z by an angle in radians."""
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])


def point_group(name: str) -> FloatArray:
    """Rotations of a point group in Schoenflies' notation, shape (order, 4): Cn and Dn about z, T, O, I.

    The two-fold axes of Dn include x; T, O and I have two-fold axes along x, y and z.

    Raises
    ------
    ConfigError
        There is no such group.
    """
    match = re.fullmatch(r"([CD])([1-9]\d?)|([TOI])", name)
    if match is None:
        raise ConfigError(f"'{name}' is no point group", where="symmetry", hint="C1, C2, ... D2, D3, ... T, O, I")
    x_half, diagonal = np.array([0.0, 1, 0, 0]), np.array([0.5, 0.5, 0.5, 0.5])
    if match[3] is None:
        generators = [about_z(2 * np.pi / int(match[2]))] + ([x_half] if match[1] == "D" else [])
    else:
        extra = {"T": [], "O": [about_z(np.pi / 2)], "I": [np.array([0.5, 0.5 / _GOLDEN, 0.5 * _GOLDEN, 0.0])]}
        generators = [x_half, about_z(np.pi), diagonal, *extra[match[3]]]
    return _closure(generators)


def _closure(generators: list[FloatArray]) -> FloatArray:
    group = [np.array([1.0, 0, 0, 0])]
    for element in group:  # grows while it is walked
        for generator in generators:
            new = multiply(element, generator)
            if all(abs(float(new @ known)) < 1 - 1e-9 for known in group):
                group.append(new)
    return np.array(group)


def angle_deg(a: FloatArray, b: FloatArray, symmetry: FloatArray | None = None) -> FloatArray:
    """Angle between orientations, degrees: the least over the particle's symmetry.

    Parameters
    ----------
    a, b
        Quaternions, shapes that broadcast to (..., 4).
    symmetry
        Rotations of the particle that leave it as it is, shape (order, 4).
    """
    if symmetry is None:
        cosine = np.abs(np.sum(a * b, axis=-1))
    else:
        cosine = np.max(
            [np.abs(np.sum(multiply(a, g) * b, axis=-1)) for g in symmetry], axis=0
        )  # R(a) R(g) sees the same as R(a)
    return np.asarray(np.degrees(2 * np.arccos(np.clip(cosine, 0, 1))), dtype=np.float64)


def into_zone(q: FloatArray, symmetry: FloatArray) -> FloatArray:
    """The equivalent of each orientation that is nearest to the identity: all of one fundamental zone, shape (n, 4)."""
    copies = np.stack([multiply(q, g) for g in symmetry])
    best = np.argmax(np.abs(copies[..., 0]), axis=0)
    return np.asarray(copies[best, np.arange(len(q))])
