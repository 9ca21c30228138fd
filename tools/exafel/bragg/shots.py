"""Simulated shots: random pulse, crystal and noise, each from the seed and the shot's number alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation

from exafel.arrays import AnyArray, FloatArray
from exafel.bragg.background import diffuse_background, measured_background
from exafel.bragg.forward import split_panels
from exafel.bragg.gpu import GpuModel
from exafel.bragg.readout import detect, psf_kernel, spread
from exafel.bragg.sample import Sample
from exafel.bragg.scene import CrystalModel, Divergence, SceneArrays, SceneOptions, scene_arrays
from exafel.bragg.spectrum import JITTER_LIMIT, pulse_energies, sase_spectrum
from exafel.config.simulate import CrystalConfig, PulseConfig, SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.crystal import CellParameters, Crystal, orthogonalization
from exafel.io.geometry import EV_ANGSTROM, Beam, Detector

_CUT = 15.0
"""Terms below 3e-7 of a reflection's maximum are left out: less than the noise of one photon shows."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One simulated image and what it was made from.

    Parameters
    ----------
    number
        Number of the shot in the whole simulation.
    beam
        The pulse: mean wavelength, spectrum, photons (as `flux`).
    crystal
        Mean orientation and unit cell; None for a shot that missed.
    scale
        Mosaic blocks in the beam; 0 for a shot that missed.
    images
        Detector counts, int32, one array of shape (slow, fast) a panel.
    """

    number: int
    beam: Beam
    crystal: Crystal | None
    scale: float
    images: list[AnyArray]


class ShotSimulator:
    """Makes shots of one sample in one beam on one detector.

    Parameters
    ----------
    config
        What to simulate.
    detector
        The detector.
    sample
        The crystal's contents, mean unit cell and symmetry.

    Raises
    ------
    InputError
        The background's profile cannot be used, or panels with pixels of several sizes are to have a point spread.
    ExafelError
        There is no GPU though one is asked for.
    """

    def __init__(self, config: SimulateSfxConfig, detector: Detector, sample: Sample) -> None:
        self._config = config
        self.detector = detector
        self._sample = sample
        self._background = mean_background(config, detector)
        self._options = SceneOptions(config.oversample, config.sensor_layers, _CUT, _divergence(config.pulse))
        self._gpu = GpuModel() if config.device == "gpu" else None
        self._background_on_device = self._gpu.upload(self._background) if self._gpu else None
        psf = config.readout.psf
        if psf and len({panel.pixel_size_mm for panel in detector.panels}) > 1:
            raise InputError("a point spread needs pixels of one size on all panels", where="simulate.readout.psf")
        self._psf = psf_kernel(psf, detector[0].pixel_size_mm) if psf else None

    def shot(self, number: int) -> Shot:
        """Make shot `number`: always the same, whichever shots were made before and wherever."""
        rng = np.random.default_rng([self._config.seed, number])
        beam = random_pulse(rng, self._config.pulse)
        crystal, scale = None, 0.0
        if rng.random() >= self._config.no_hit_fraction:
            crystal = self._random_crystal(rng)
            scale = self._random_scale(rng, crystal)
        scene = None if crystal is None else self._scene(rng, beam, crystal, scale)
        on_host = self._gpu is None
        counts = self._counts(rng, beam, scene) if on_host else self._counts_on_device(number, beam, scene)
        return Shot(number, beam, crystal, scale, split_panels(counts, self.detector))

    def _scene(self, rng: np.random.Generator, beam: Beam, crystal: Crystal, scale: float) -> SceneArrays:
        config = self._config
        blocks = mosaic_bases(rng, crystal, config.crystal)
        model = CrystalModel(blocks, config.crystal.n_cells, scale, config.crystal.shape)
        fluence = beam.flux / (config.pulse.beam_size_um * 1e-6) ** 2
        return scene_arrays(self.detector, beam, model, self._sample.structure_factors, fluence, self._options)

    def _counts(self, rng: np.random.Generator, beam: Beam, scene: SceneArrays | None) -> AnyArray:
        photons = beam.flux * self._background
        if scene is not None:
            scene.host.add_photons(photons, False, False, 1)
        if self._psf is not None:
            for panel in split_panels(photons, self.detector):
                panel[...] = spread(panel, self._psf)
        return np.asarray(detect(rng, photons, self._config.readout))

    def _counts_on_device(self, number: int, beam: Beam, scene: SceneArrays | None) -> AnyArray:
        """The same on the GPU, where the image stays until it is finished; its noise has other random numbers."""
        assert self._gpu is not None
        assert self._background_on_device is not None
        photons = self._background_on_device * beam.flux
        if scene is not None:
            self._gpu.photons(scene, photons)
        if self._psf is not None:
            kernel = self._gpu.upload(self._psf)
            for panel in split_panels(photons, self.detector):
                panel[...] = self._gpu.convolve(panel, kernel)
        rng = self._gpu.generator([self._config.seed, number])
        return np.asarray(detect(rng, photons, self._config.readout).get())

    def _random_crystal(self, rng: np.random.Generator) -> Crystal:
        cell = jittered_cell(
            rng, self._sample.cell, self._sample.space_group, self._config.crystal.cell_jitter_percent / 100
        )
        basis = (random_rotation(rng) @ orthogonalization(cell)).T
        return Crystal(np.asarray(basis), str(self._sample.space_group.hall))

    def _random_scale(self, rng: np.random.Generator, crystal: Crystal) -> float:
        """Mosaic blocks in the lit crystal: its volume over that of a block."""
        config: CrystalConfig = self._config.crystal
        size_angstrom = 1e4 * config.size_um * np.exp(config.size_jitter * rng.standard_normal())
        block = abs(np.linalg.det(crystal.real_space)) * np.prod(config.n_cells)
        return float(size_angstrom**3 / block)


def mean_background(config: SimulateSfxConfig, detector: Detector) -> FloatArray:
    """Background of a pixel for one photon of the pulse, shape (n_pixels,)."""
    beam = nominal_beam(config.pulse)
    water, air = config.water_thickness_um, config.air_thickness_mm
    total = diffuse_background(detector, beam, water_um=water, air_mm=air, absorption=config.sensor_layers > 0)
    if config.background_profile is not None:
        total += measured_background(Path(config.background_profile), detector, beam) / config.pulse.photons
    return total


def _divergence(config: PulseConfig) -> Divergence | None:
    if not any(config.divergence_mrad):
        return None
    vertical, horizontal = (1e-3 * value for value in config.divergence_mrad)
    return Divergence.gaussian((vertical, horizontal), config.divergence_steps)


def nominal_beam(config: PulseConfig) -> Beam:
    """The beam at its mean photon energy, without a spectrum."""
    return Beam(
        EV_ANGSTROM / config.photon_energy_ev,
        polarization_fraction=config.polarization_fraction,
        flux=config.photons,
    )


def random_pulse(rng: np.random.Generator, config: PulseConfig) -> Beam:
    """One pulse: its spectrum on the channels that all pulses share, and its number of photons."""
    energy = config.photon_energy_ev
    fwhm = energy * config.bandwidth_percent / 100
    jitter = energy * config.energy_jitter_percent / 100
    energies = pulse_energies(config)
    centre = energy + jitter * np.clip(rng.standard_normal(), -JITTER_LIMIT, JITTER_LIMIT)
    spectrum = sase_spectrum(rng, energies, centre, fwhm, config.spike_width_ev)
    photons = config.photons * max(0.0, 1 + config.photons_jitter_percent / 100 * rng.standard_normal())
    mean = spectrum.mean_wavelength()
    return replace(nominal_beam(config), wavelength_angstrom=mean, spectrum=spectrum, flux=photons)


def random_rotation(rng: np.random.Generator) -> FloatArray:
    """Draw a rotation evenly from all (Shoemake 1992, Graphics Gems III, 124), shape (3, 3)."""
    return rotation_from_quaternion(rng.standard_normal(4))


def rotation_from_quaternion(quaternion: FloatArray) -> FloatArray:
    """Rotation of a quaternion (w, x, y, z) of any length, shape (3, 3)."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def mosaic_bases(rng: np.random.Generator, crystal: Crystal, config: CrystalConfig) -> FloatArray:
    """Real-space bases of a crystal's mosaic blocks, rows a, b, c, angstrom, shape (n_blocks, 3, 3)."""
    if not isinstance(config.mosaicity_deg, tuple):
        rotations = mosaic_rotations(rng, config.mosaic_blocks, np.radians(config.mosaicity_deg))
    else:
        half = rng.standard_normal((config.mosaic_blocks // 2, 3)) * np.radians(config.mosaicity_deg)
        vectors = np.concatenate([np.zeros((config.mosaic_blocks % 2, 3)), half, -half])
        own = Rotation.from_rotvec(vectors).as_matrix()
        rotations = crystal.U @ own @ crystal.U.T
    return np.asarray(crystal.real_space @ rotations.transpose(0, 2, 1))


def mosaic_rotations(rng: np.random.Generator, n_blocks: int, sigma_rad: float) -> FloatArray:
    """Rotations of mosaic blocks about the mean orientation, shape (n_blocks, 3, 3).

    Axes are even over the sphere, angles normal with rms `sigma_rad`. They come in opposite pairs, and an odd one is
    the identity, so that their mean is the crystal's orientation.
    """
    rotations = [np.eye(3)] if n_blocks % 2 or sigma_rad == 0 else []
    while len(rotations) < n_blocks:
        axis = rng.standard_normal(3)
        half = sigma_rad * rng.standard_normal() / 2
        quaternion = np.concatenate([[np.cos(half)], np.sin(half) * axis / np.linalg.norm(axis)])
        rotation = rotation_from_quaternion(quaternion)
        rotations += [rotation, rotation.T]
    return np.array(rotations[:1] if sigma_rad == 0 else rotations)


def jittered_cell(
    rng: np.random.Generator, cell: CellParameters, space_group: gemmi.SpaceGroup, relative_sigma: float
) -> CellParameters:
    """Vary each length that the symmetry leaves free by a normal factor; angles stay as they are."""
    factors = 1 + relative_sigma * rng.standard_normal(3)
    system = space_group.crystal_system_str()
    if system == "cubic" or (system == "trigonal" and cell[5] != 120.0):
        factors[1:] = factors[0]
    elif system in {"tetragonal", "trigonal", "hexagonal"}:
        factors[1] = factors[0]
    a, b, c = (float(length * factor) for length, factor in zip(cell[:3], factors, strict=True))
    return a, b, c, *cell[3:]
