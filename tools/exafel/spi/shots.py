"""Shots of single particles: what is random in each, and the photons that it gives.

Expected photons in a pixel: Φ r_e² P Ω Σ_energies w |Σ_particles F(R^T s) exp(2πi s·r)|², with fluence Φ, polarization
P and solid angle Ω; particles scatter coherently, energies do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exafel.arrays import AnyArray, Float32Array, FloatArray, IntArray
from exafel.config.simulate_spi import SimulateSpiConfig, SpiPulse
from exafel.io.geometry import EV_ANGSTROM
from exafel.spi.detectors import pixel_places, polarization, read_out, scattering_vectors
from exafel.spi.particles import Particle
from exafel.spi.rotations import matrices, random_quaternions

ELECTRON_RADIUS_ANGSTROM = 2.8179403262e-5
_POINTS_A_BATCH = 1_500_000
_FINE = 400  # energies at which a spectrum's spikes are drawn


@dataclass(frozen=True, eq=False)
class ShotPlan:
    """What is random in a shot.

    Parameters
    ----------
    orientations
        Of every particle, shape (particles, 4); no particle in a blank shot.
    conformations
        Of every particle, shape (particles,).
    positions_angstrom
        Of every particle, shape (particles, 3).
    fluence
        Relative to the mean.
    offset_px
        Of the beam along x and y.
    energies_ev, weights
        Spectrum, weights that sum to 1.
    """

    number: int
    orientations: FloatArray
    conformations: IntArray
    positions_angstrom: FloatArray
    fluence: float
    offset_px: FloatArray
    energies_ev: FloatArray
    weights: FloatArray


class SpiSimulator:
    """Makes shots by their numbers.

    Parameters
    ----------
    particles
        Conformations, with their shares.
    """

    def __init__(self, config: SimulateSpiConfig, particles: Sequence[Particle], shares: Sequence[float]) -> None:
        self.config = config
        self._particles = tuple(particles)
        self._shares = np.array(shares) / np.sum(shares)
        self.places = pixel_places(config.detector)
        self._points = self.places.points(config.oversample)
        rng = np.random.default_rng([config.seed, 0])
        shape = self.places.shape
        self.good = self.places.good & (rng.random(shape) >= config.noise.dead_fraction)
        centre = self.places.centre_mm.reshape(-1, 3)
        slope = config.noise.background_slope * centre[:, 0] / max(np.abs(centre[:, 0]).max(), 1e-9)
        self._background = config.noise.background_photons * (1 + slope)

    @property
    def wavelength_angstrom(self) -> float:
        """Mean wavelength."""
        return float(EV_ANGSTROM / self.config.pulse.photon_energy_ev)

    def reciprocal(self) -> FloatArray:
        """Scattering vectors of pixel centres at the mean energy, 1/angstrom, shape (3, panels, rows, columns)."""
        s = scattering_vectors(self.places.centre_mm, self.wavelength_angstrom)
        return s.reshape(3, *self.places.shape)

    def plan(self, number: int) -> ShotPlan:
        """Draw what is random in a shot, from the seed and its number alone."""
        config = self.config
        rng = self._rng(number, 1)
        n = 0 if rng.random() < config.blank_fraction else 1
        if n and config.particles_per_shot != 1:
            n = max(1, int(rng.poisson(config.particles_per_shot)))
        reach = 1e4 * config.pulse.focus_radius_um
        positions = _in_ball(n, reach, rng) if n > 1 else np.zeros((n, 3))
        energies, weights = _spectrum(config.pulse, rng)
        return ShotPlan(
            number,
            random_quaternions(n, rng),
            rng.choice(len(self._particles), size=n, p=self._shares).astype(np.int64),
            positions,
            _fluence(config.pulse, rng),
            config.noise.miscentring_px * rng.normal(size=2),
            energies,
            weights,
        )

    def batch_size(self) -> int:
        """Shots whose transforms are worth making together."""
        per_shot = self._points.shape[0] * self._points.shape[1] * self.config.particles_per_shot
        energies = self.config.pulse.channels if self.config.pulse.bandwidth_percent else 1
        return max(1, int(_POINTS_A_BATCH / (per_shot * energies)))

    def expected(self, plans: Sequence[ShotPlan]) -> FloatArray:
        """Expected photons of the particles, without background, shape (shots, pixels)."""
        n_pixels, n_sub = self._points.shape[:2]
        jobs = [
            _Job(row, e, self._vectors(plan, e)) for row, plan in enumerate(plans) for e in range(len(plan.weights))
        ]
        waves = self._waves(plans, jobs)
        scale = self._photons_per_electron2()
        total = np.zeros((len(plans), n_pixels))
        for job, wave in zip(jobs, waves, strict=True):
            plan = plans[job.row]
            power = (np.abs(wave) ** 2).reshape(n_pixels, n_sub).mean(axis=1)
            total[job.row] += plan.fluence * plan.weights[job.energy] * power * scale
        return total

    def measured(self, plan: ShotPlan, expected: FloatArray) -> Float32Array:
        """What the detector reads of a shot, shape (panels, rows, columns)."""
        rng = self._rng(plan.number, 2)
        photons: AnyArray = expected + self._background
        if self.config.noise.poisson:
            photons = rng.poisson(photons).astype(np.float64)
        read = read_out(photons, self.config.readout, rng).reshape(self.places.shape)
        return np.asarray(np.where(self.good, read, 0), dtype=np.float32)

    def _vectors(self, plan: ShotPlan, energy: int) -> FloatArray:
        shift = np.array([*(-plan.offset_px * self.places.pixel_mm), 0.0])
        return scattering_vectors(self._points + shift, EV_ANGSTROM / plan.energies_ev[energy])

    def _waves(self, plans: Sequence[ShotPlan], jobs: Sequence[_Job]) -> list[AnyArray]:
        """Amplitude of each job, summed over the shot's particles."""
        waves = [np.zeros(job.s.shape[1], dtype=np.complex128) for job in jobs]
        for kind, particle in enumerate(self._particles):
            asked = [
                (index, k)
                for index, job in enumerate(jobs)
                for k in np.flatnonzero(plans[job.row].conformations == kind)
            ]
            if not asked:
                continue
            turned = [matrices(plans[jobs[i].row].orientations[k]).T @ jobs[i].s for i, k in asked]
            amplitude = particle.amplitude(np.concatenate(turned, axis=1)).reshape(len(asked), -1)
            for (i, k), wave in zip(asked, amplitude, strict=True):
                position = plans[jobs[i].row].positions_angstrom[k]
                waves[i] += wave * np.exp(2j * np.pi * (position @ jobs[i].s)) if position.any() else wave
        return waves

    def _photons_per_electron2(self) -> FloatArray:
        pulse = self.config.pulse
        fluence = pulse.photons / (np.pi * (1e4 * pulse.focus_radius_um) ** 2)
        factor = polarization(self.places.centre_mm.reshape(-1, 3), pulse.polarization_fraction)
        return fluence * ELECTRON_RADIUS_ANGSTROM**2 * factor * self.places.solid_angle()

    def _rng(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, purpose, number])


@dataclass(frozen=True, eq=False)
class _Job:
    """One energy of one shot: row of the plan, number of the energy, scattering vectors of all points."""

    row: int
    energy: int
    s: FloatArray


def _in_ball(n: int, radius: float, rng: np.random.Generator) -> FloatArray:
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.asarray(direction * radius * rng.random((n, 1)) ** (1 / 3), dtype=np.float64)


def _fluence(pulse: SpiPulse, rng: np.random.Generator) -> float:
    """Fluence relative to the mean: gamma-distributed, as the energy of pulses with many modes is, and by the focus.

    (Saldin, Schneidmiller & Yurkov 1998, Opt. Commun. 148, 383.) In a Gaussian focus the fluence on its axis is twice
    the mean over the area π radius², where the radius is that at which it has fallen to 1/e².
    """
    factor = 1.0
    if pulse.fluence_jitter > 0:
        shape = pulse.fluence_jitter**-2
        factor = float(rng.gamma(shape, 1 / shape))
    if pulse.gaussian_focus:
        factor *= 2 * float(np.exp(-2 * rng.random()))  # uniform over the disc: (r / radius)² is uniform
    return factor


def _spectrum(pulse: SpiPulse, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Energies and weights of one pulse: Gaussian noise in a band, smoothed to spikes, squared."""
    if pulse.bandwidth_percent == 0:
        return np.array([pulse.photon_energy_ev]), np.ones(1)
    sigma = pulse.photon_energy_ev * pulse.bandwidth_percent / 100 / 2.3548
    offset = np.linspace(-3 * sigma, 3 * sigma, _FINE)
    spike = np.exp(-(offset**2) / (2 * (pulse.spike_width_ev / 2.3548) ** 2 * 2))
    field = np.convolve(rng.normal(size=_FINE) + 1j * rng.normal(size=_FINE), spike, mode="same")
    power = np.abs(field) ** 2 * np.exp(-(offset**2) / (2 * sigma**2))
    groups = np.array_split(np.arange(_FINE), pulse.channels)
    weights = np.array([power[rows].sum() for rows in groups])
    energies = np.array([(offset[rows] @ power[rows]) / power[rows].sum() for rows in groups])
    return pulse.photon_energy_ev + energies, weights / weights.sum()
