"""A particle as scatterers, and its scattering amplitude at any scattering vectors, exactly.

F(s) = Σ_j f_j(|s|) exp(2πi s·x_j), a type-3 non-uniform FFT for each chemical element: atoms are anywhere, and so are
pixels. Form factors are those of the International Tables, vol. C (1992), table 6.1.1.4, through gemmi.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import gemmi
import numpy as np
import scipy.fft
from scipy.spatial import cKDTree

from exafel.arrays import ComplexArray, FloatArray
from exafel.errors import InputError
from exafel.io.files import read_compressed

_EPS = 1e-6
_WATER_RADIUS = 2.8  # from the centre of an atom to that of the nearest water, angstrom


@dataclass(frozen=True, eq=False)
class Scatterers:
    """Scatterers of one kind: positions in angstrom, shape (n, 3), weights, shape (n,), and what gives f(|s|).

    `element` is empty for voxels of water, `width_angstrom` wide; `b_factor` is a displacement factor, square angstrom.
    """

    element: str
    positions: FloatArray
    weights: FloatArray
    b_factor: float = 0.0
    width_angstrom: float = 0.0

    def form_factor(self, s: FloatArray) -> FloatArray:
        """Electrons that scatter in phase, by |s| in 1/angstrom; of a voxel of water, one at s = 0."""
        if not self.element:  # the transform of a cube, averaged over its directions to second order
            return np.exp(-((np.pi * s * self.width_angstrom) ** 2) / 6)
        coefficients = gemmi.Element(self.element).it92
        if coefficients is None:
            raise InputError(f"no form factor for element {self.element}")
        a, b, c = np.array(coefficients.a), np.array(coefficients.b), coefficients.c
        f = np.exp(-np.multiply.outer(s * s / 4, b)) @ a + c
        return np.asarray(f * np.exp(-self.b_factor * s * s / 4), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Particle:
    """One conformation: scatterers with their centre of mass at the origin.

    Parameters
    ----------
    name
        File that it comes from, and number of the model.
    """

    name: str
    parts: tuple[Scatterers, ...]
    n_atoms: int
    radius_angstrom: float = field(default=0.0)

    def amplitude(self, s: FloatArray) -> ComplexArray:
        """Scattering amplitude in electrons at scattering vectors in 1/angstrom, shape (3, n) to (n,)."""
        import finufft

        length = np.linalg.norm(s, axis=0)
        total = np.zeros(s.shape[1], dtype=np.complex128)
        targets = np.ascontiguousarray(2 * np.pi * s)
        for part in self.parts:
            x, y, z = np.ascontiguousarray(part.positions.T)
            wave = finufft.nufft3d3(x, y, z, part.weights.astype(complex), *targets, eps=_EPS, isign=1, nthreads=1)
            total += part.form_factor(length) * wave
        return total

    def density(self, m: int, voxel_angstrom: float) -> FloatArray:
        """Density band-limited to the voxels' resolution, electrons a voxel, shape (m, m, m), origin in the middle."""
        line = np.fft.fftfreq(m) / voxel_angstrom
        s = np.stack(np.meshgrid(line, line, np.arange(m // 2 + 1) / (m * voxel_angstrom), indexing="ij"))
        inside = np.linalg.norm(s, axis=0) <= 0.5 / voxel_angstrom
        F = np.zeros(inside.shape, dtype=np.complex128)
        F[inside] = np.conj(self.amplitude(s[:, inside]))
        return np.asarray(np.fft.fftshift(scipy.fft.irfftn(F, s=(m, m, m))), dtype=np.float64)


def read_particles(path: Path, *, b_factors: bool = False) -> list[Particle]:
    """Read the conformations of a PDB or mmCIF file, one a model; it may be compressed (.gz, .xz).

    Raises
    ------
    InputError
        The file cannot be read or has no atoms.
    """
    name = path.name.lower().removesuffix(".xz").removesuffix(".gz")
    text = read_compressed(path).decode(errors="replace")
    try:
        if name.endswith((".cif", ".mmcif")):
            structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
        else:
            structure = gemmi.read_pdb_string(text)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"not a structure file: {error}", where=path, hint="give a PDB or mmCIF file") from error
    structure.remove_hydrogens()
    particles = [_particle(f"{path.name}:{n}", model, b_factors) for n, model in enumerate(structure)]
    particles = [item for item in particles if item.n_atoms]
    if not particles:
        raise InputError("no atoms", where=path)
    return particles


def _particle(name: str, model: gemmi.Model, b_factors: bool) -> Particle:
    atoms = [site.atom for site in model.all()]
    if not atoms:
        return Particle(name, (), 0)
    positions = np.array([atom.pos.tolist() for atom in atoms])
    elements = np.array([atom.element.name for atom in atoms])
    occupancy = np.array([atom.occ for atom in atoms])
    blur = np.array([round(atom.b_iso / 10) * 10.0 for atom in atoms]) if b_factors else np.zeros(len(atoms))
    electrons = np.array([atom.element.atomic_number for atom in atoms]) * occupancy
    positions = positions - (electrons @ positions) / electrons.sum()
    parts = []
    for element in sorted(set(elements)):
        for b in np.unique(blur[elements == element]):
            chosen = (elements == element) & (blur == b)
            parts.append(Scatterers(str(element), positions[chosen], occupancy[chosen], b_factor=float(b)))
    return Particle(name, tuple(parts), len(atoms), float(np.linalg.norm(positions, axis=1).max()))


def hydrated(particle: Particle, thickness_angstrom: float, density: float, mesh_angstrom: float) -> Particle:
    """Give a particle a layer of water: voxels whose distance from the nearest atom is that of a layer.

    Parameters
    ----------
    density
        Electrons per cubic angstrom of water beyond the vacuum around it.
    """
    if thickness_angstrom <= 0:
        return particle
    atoms = np.concatenate([part.positions for part in particle.parts])
    reach = _WATER_RADIUS + thickness_angstrom
    low, high = atoms.min(axis=0) - reach, atoms.max(axis=0) + reach
    axes = [np.arange(a, b, mesh_angstrom) for a, b in zip(low, high, strict=True)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance, _ = cKDTree(atoms).query(mesh, distance_upper_bound=reach)
    voxels = mesh[(distance > _WATER_RADIUS) & np.isfinite(distance)]
    weights = np.full(len(voxels), density * mesh_angstrom**3)
    water = Scatterers("", voxels, weights, width_angstrom=mesh_angstrom)
    return Particle(particle.name, (*particle.parts, water), particle.n_atoms, particle.radius_angstrom + reach)
