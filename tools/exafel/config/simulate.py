"""Parameters of the simulate step."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from exafel.config.base import Model

Triple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class GridDetector(Model):
    """A detector of equal panels in a flat grid, centred on the beam and normal to it."""

    type: Literal["grid"] = Field("grid", description="Panels in a flat grid; one panel is a grid too.")
    panel_size_px: tuple[PositiveInt, PositiveInt] = Field(
        (768, 768), description="Pixels of a panel along fast and slow."
    )
    panels: tuple[PositiveInt, PositiveInt] = Field((1, 1), description="Number of panels along fast and slow.")
    gap_px: int = Field(0, ge=0, description="Gap between neighbouring panels, in pixels.")
    pixel_size_mm: float = Field(0.1, gt=0, description="Size of a pixel.")
    distance_mm: float = Field(80.0, gt=0, description="Distance from the sample.")


class ExptDetector(Model):
    """A detector read from a DIALS experiment file."""

    type: Literal["expt"] = Field("expt", description="The first detector of a DIALS experiment file.")
    path: str = Field(description="The .expt file.")


DetectorConfig = Annotated[GridDetector | ExptDetector, Field(discriminator="type")]


class ReadoutConfig(Model):
    """How photons become numbers."""

    gain: float = Field(1.0, gt=0, description="Detector counts for one photon.")
    read_noise_photons: float = Field(0.0, ge=0, description="Standard deviation of the read-out noise, in photons.")
    saturation_photons: float = Field(60000.0, gt=0, description="Largest number of photons that a pixel can tell.")


class PulseConfig(Model):
    """The X-ray pulses: self-amplified spontaneous emission, so that no two spectra are alike."""

    photon_energy_ev: float = Field(9500.0, gt=0, description="Mean photon energy.")
    bandwidth_percent: float = Field(0.3, ge=0, lt=10, description="Full width at half maximum of the mean spectrum.")
    spike_width_ev: float = Field(1.0, gt=0, description="Full width at half maximum of one spike of a spectrum.")
    energy_jitter_percent: float = Field(
        0.05, ge=0, lt=2, description="Shot-to-shot rms of the centre of the spectrum."
    )
    channels: int = Field(100, ge=1, description="Energy channels. One channel: monochromatic pulses.")
    photons: float = Field(1e12, gt=0, description="Mean number of photons of a pulse.")
    photons_jitter_percent: float = Field(10.0, ge=0, lt=30, description="Shot-to-shot rms of the number of photons.")
    beam_size_um: float = Field(3.0, gt=0, description="Side of the square focus that the photons fill evenly.")
    polarization_fraction: float = Field(0.999, ge=0, le=1, description="Fraction polarized along the fast axis.")


class CrystalConfig(Model):
    """The crystals, one a hit, in random orientation."""

    size_um: float = Field(1.2, gt=0, description="Median side of a crystal that the beam lights, as a cube.")
    size_jitter: float = Field(0.3, ge=0, le=2, description="Shot-to-shot rms of the logarithm of the size.")
    n_cells: Triple = Field((20.0, 20.0, 20.0), description="Unit cells of a mosaic block along a, b and c.")
    mosaicity_deg: float = Field(0.05, ge=0, lt=2, description="Rms angle between a mosaic block and the crystal.")
    mosaic_blocks: int = Field(10, ge=1, description="Orientations that sample the mosaicity.")
    cell_jitter_percent: float = Field(0.1, ge=0, lt=5, description="Shot-to-shot rms of each free cell length.")


class SimulateSfxConfig(Model):
    """Parameters of the simulate step: still images of protein crystals with known truth."""

    structure: str = Field("workflows/config/demo/1a8o.pdb", description="PDB or mmCIF file of the crystal's contents.")
    d_min_angstrom: float = Field(2.0, gt=0.5, description="Resolution to which structure factors are computed.")
    anomalous: bool = Field(False, description="Include anomalous scattering at the mean photon energy.")
    n_shots: int = Field(200, ge=1, description="Number of images.")
    no_hit_fraction: float = Field(0.12, ge=0, le=1, description="Chance that a shot misses all crystals.")
    seed: int = Field(1, ge=0, description="Seed of all that is random. Shot i depends on it and on i alone.")
    detector: DetectorConfig = Field(default_factory=GridDetector, description="Geometry of the detector.")
    readout: ReadoutConfig = Field(default_factory=ReadoutConfig, description="Gain and noise of the detector.")
    pulse: PulseConfig = Field(default_factory=PulseConfig, description="The X-ray pulses.")
    crystal: CrystalConfig = Field(default_factory=CrystalConfig, description="The crystals.")
    water_thickness_um: float = Field(5.0, ge=0, description="Water in the beam, which scatters the background.")
    oversample: int = Field(1, ge=1, le=10, description="Subpixels along each side of a pixel.")

    @field_validator("detector", mode="before")
    @classmethod
    def _grid_where_not_said(cls, value: Any) -> Any:
        return {"type": "grid", **value} if isinstance(value, dict) else value
