"""Parameters of the simulation of single particles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from exafel.config.base import Model


class SquareDetector(Model):
    """One square panel, centred on the beam and normal to it."""

    type: Literal["square"] = Field("square", description="One square panel centred on the beam.")
    size_px: int = Field(64, ge=4, description="Pixels along a side.")
    side_mm: float = Field(100.0, gt=0, description="Length of a side.")
    distance_mm: float = Field(200.0, gt=0, description="Distance from the particles.")


class PnccdDetector(Model):
    """Two halves with a gap and a hole for the beam, as the pnCCD of LCLS' AMO station has."""

    type: Literal["pnccd"] = Field("pnccd", description="Four quadrants, two halves apart, with a hole for the beam.")
    quadrant_px: int = Field(512, ge=4, description="Pixels along a side of a quadrant.")
    pixel_size_mm: float = Field(0.075, gt=0, description="Size of a pixel.")
    gap_mm: float = Field(2.0, ge=0, description="Gap between the upper and the lower half.")
    hole_mm: float = Field(2.0, ge=0, description="Radius of the hole; pixels in it see nothing.")
    distance_mm: float = Field(200.0, gt=0, description="Distance from the particles.")


class PanelPlace(Model):
    """One panel of a list: normal to the beam, its rows along y and its columns along x."""

    size_px: tuple[PositiveInt, PositiveInt] = Field(description="Pixels along x and y.")
    centre_mm: tuple[float, float, float] = Field(description="Its centre: x, y, and z along the beam.")


class PanelList(Model):
    """Any panels that are normal to the beam."""

    type: Literal["panels"] = Field("panels", description="A list of panels, all of one size.")
    pixel_size_mm: float = Field(0.1, gt=0, description="Size of a pixel.")
    panels: tuple[PanelPlace, ...] = Field(min_length=1, description="The panels.")

    @model_validator(mode="after")
    def _of_one_size(self) -> PanelList:
        if len({panel.size_px for panel in self.panels}) > 1:
            raise ValueError("panels must have one size, so that they fit into one array")
        return self


SpiDetector = Annotated[SquareDetector | PnccdDetector | PanelList, Field(discriminator="type")]


class SpiPulse(Model):
    """The X-ray pulses and their focus."""

    photon_energy_ev: float = Field(4600.0, gt=0, description="Mean photon energy.")
    photons: float = Field(1e12, gt=0, description="Mean number of photons of a pulse.")
    focus_radius_um: float = Field(0.5, gt=0, description="Radius of the focus: the fluence is photons / (π radius²).")
    polarization_fraction: float = Field(1.0, ge=0, le=1, description="Fraction polarized along x.")
    fluence_jitter: float = Field(
        0.0, ge=0, le=1, description="Shot-to-shot relative rms of the fluence; it goes both ways and keeps the mean."
    )
    gaussian_focus: bool = Field(
        False, description="Particles pass the focus at random, up to its radius; its profile is Gaussian."
    )
    bandwidth_percent: float = Field(
        0.0, ge=0, lt=10, description="Full width at half maximum of the mean spectrum. 0: monochromatic pulses."
    )
    spike_width_ev: float = Field(1.0, gt=0, description="Full width at half maximum of one spike of a spectrum.")
    channels: int = Field(5, ge=2, description="Energies that sample a spectrum, where the bandwidth is not 0.")


class Hydration(Model):
    """Water that a particle carries along."""

    thickness_angstrom: float = Field(0.0, ge=0, description="Thickness of the layer. 0: none.")
    density: float = Field(0.334, gt=0, description="Electrons per cubic angstrom.")
    mesh_angstrom: float = Field(2.0, gt=0, description="Mesh on which the layer is laid out.")


class GainStage(Model):
    """One gain of an autoranging detector."""

    adu_per_photon: PositiveFloat = Field(description="Counts for one photon.")
    up_to_photons: PositiveFloat = Field(description="Signal at which a pixel leaves this stage.")
    noise_adu: float = Field(0.0, ge=0, description="Rms of the read-out noise in counts.")


class AutorangingReadout(Model):
    """Each pixel switches its gain by its signal, as ePix10k and Jungfrau do; counts are whole numbers."""

    type: Literal["autoranging"] = Field("autoranging", description="Pixels that switch their gain by the signal.")
    stages: tuple[GainStage, ...] = Field(
        (
            GainStage(adu_per_photon=150.0, up_to_photons=90.0, noise_adu=10.0),
            GainStage(adu_per_photon=50.0, up_to_photons=280.0, noise_adu=10.0),
            GainStage(adu_per_photon=1.5, up_to_photons=10000.0, noise_adu=2.0),
        ),
        min_length=1,
        description="Gains, the highest first.",
    )


class PlainReadout(Model):
    """Photons as they are."""

    type: Literal["photons"] = Field("photons", description="Photons are counted one by one.")


class SpiNoise(Model):
    """What spoils a shot."""

    poisson: bool = Field(True, description="Photons are counted. false: expected numbers of photons are written.")
    miscentring_px: float = Field(0.0, ge=0, description="Shot-to-shot rms of the beam's position along x and y.")
    background_photons: float = Field(
        0.0, ge=0, description="Mean of a static background in photons a pixel and shot, the same in all shots."
    )
    background_slope: float = Field(
        0.0, ge=0, le=1, description="Relative rise of the background from the centre to the edge along x."
    )
    dead_fraction: float = Field(0.0, ge=0, lt=1, description="Fraction of pixels that always read zero.")


class SimulateSpiConfig(Model):
    """Parameters of the simulate spi step: shots of single particles in random orientation, with known truth."""

    structures: tuple[str, ...] = Field(
        ("workflows/config/demo/1a8o.pdb",),
        min_length=1,
        description="PDB or mmCIF files, one a conformation; every model of a file with several is one too.",
    )
    fractions: tuple[PositiveFloat, ...] = Field((), description="Share of each conformation. Empty: equal shares.")
    b_factors: bool = Field(False, description="Blur each atom by its displacement factor.")
    n_shots: int = Field(500, ge=1, description="Number of shots.")
    particles_per_shot: float = Field(
        1.0, gt=0, description="Mean number of particles in a shot; 1: always one; else Poisson, at least one."
    )
    blank_fraction: float = Field(0.0, ge=0, lt=1, description="Chance that a shot misses all particles.")
    seed: int = Field(1, ge=0, description="Seed of all that is random. Shot i depends on it and on i alone.")
    detector: SpiDetector = Field(default_factory=SquareDetector, description="Geometry of the detector.")
    oversample: int = Field(1, ge=1, le=8, description="Points along each side of a pixel that are averaged.")
    pulse: SpiPulse = Field(default_factory=SpiPulse, description="The X-ray pulses.")
    hydration: Hydration = Field(default_factory=Hydration, description="Water around a particle.")
    readout: Annotated[PlainReadout | AutorangingReadout, Field(discriminator="type")] = Field(
        default_factory=PlainReadout, description="How photons become numbers."
    )
    noise: SpiNoise = Field(default_factory=SpiNoise, description="Noise and background.")

    @field_validator("detector", mode="before")
    @classmethod
    def _square_where_not_said(cls, value: Any) -> Any:
        return {"type": "square", **value} if isinstance(value, dict) else value

    @field_validator("readout", mode="before")
    @classmethod
    def _photons_where_not_said(cls, value: Any) -> Any:
        return {"type": "photons", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_fraction_a_structure(self) -> SimulateSpiConfig:
        if self.fractions and len(self.fractions) != len(self.structures):
            raise ValueError(f"{len(self.fractions)} fractions for {len(self.structures)} structures")
        return self
