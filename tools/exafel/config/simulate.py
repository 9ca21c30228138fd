"""Parameters of the simulate step."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from exafel.config.base import Model

Triple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Spread = Annotated[float, Field(ge=0, lt=2)]


class GridDetector(Model):
    """A detector of equal panels in a flat grid, centred on the beam and normal to it."""

    type: Literal["grid"] = Field("grid", description="Panels in a flat grid; one panel is a grid too.")
    panel_size_px: tuple[PositiveInt, PositiveInt] = Field(
        (768, 768), description="Pixels of a panel along fast and slow."
    )
    panels: tuple[PositiveInt, PositiveInt] = Field((1, 1), description="Number of panels along fast and slow.")
    gap_px: int = Field(0, ge=0, description="Gap between neighbouring panels, in pixels.")
    pixel_size_mm: float = Field(0.1, gt=0, description="Size of a pixel.")
    sensor_thickness_mm: float = Field(0.32, gt=0, description="Thickness of the sensor; see sensor_layers.")
    sensor_material: Literal["Si", "CdTe", "GaAs"] = Field("Si", description="Material of the sensor.")
    distance_mm: float = Field(80.0, gt=0, description="Distance from the sample.")


class ExptDetector(Model):
    """A detector read from a DIALS experiment file."""

    type: Literal["expt"] = Field("expt", description="The first detector of a DIALS experiment file.")
    path: str = Field(description="The .expt file.")


DetectorConfig = Annotated[GridDetector | ExptDetector, Field(discriminator="type")]


class PsfConfig(Model):
    """How far a photon's signal spreads over pixels."""

    type: Literal["gaussian", "fiber"] = Field(
        "gaussian", description="Gaussian, or a fibre-optic taper's: (1 + (r/g)^2)^(-3/2)."
    )
    fwhm_mm: float = Field(gt=0, description="Full width at half maximum.")
    reach_px: int = Field(10, ge=1, le=200, description="What goes farther than this many pixels is left out.")


class ReadoutConfig(Model):
    """How photons become numbers."""

    psf: PsfConfig | None = Field(None, description="Point spread; none: a photon stays in its pixel.")
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
    divergence_mrad: tuple[float, float] = Field(
        (0.0, 0.0), description="Full width at half maximum of directions, about the polarization axis and across it."
    )
    divergence_steps: int = Field(3, ge=1, le=15, description="Directions along each of the two axes.")
    beam_size_um: float = Field(3.0, gt=0, description="Side of the square focus that the photons fill evenly.")
    polarization_fraction: float = Field(0.999, ge=0, le=1, description="Fraction polarized along the fast axis.")


class CrystalConfig(Model):
    """The crystals, one a hit, in random orientation."""

    size_um: float = Field(1.2, gt=0, description="Median side of a crystal that the beam lights, as a cube.")
    size_jitter: float = Field(0.3, ge=0, le=2, description="Shot-to-shot rms of the logarithm of the size.")
    n_cells: Triple = Field((20.0, 20.0, 20.0), description="Unit cells of a mosaic block along a, b and c.")
    shape: Literal["gauss", "square", "round", "tophat"] = Field("gauss", description="Shape of a mosaic block.")
    mosaicity_deg: Spread | tuple[Spread, Spread, Spread] = Field(
        0.05,
        description="Rms angle between a mosaic block and the crystal; or three rms angles about the axes of the "
        "crystal's own frame (x along a, z normal to a and b).",
    )
    mosaic_blocks: int = Field(10, ge=1, description="Orientations that sample the mosaicity.")
    cell_jitter_percent: float = Field(0.1, ge=0, lt=5, description="Shot-to-shot rms of each free cell length.")


class SimulateSfxConfig(Model):
    """Parameters of the simulate step: still images of protein crystals with known truth."""

    structure: str = Field(
        "workflows/config/demo/1a8o.pdb",
        description="PDB or mmCIF file of the crystal's contents, or MTZ of its structure factors.",
    )
    structure_column: str | None = Field(
        None, description="Column of an MTZ; of a Bijvoet pair its plus mate, as F(+). None: the first that fits."
    )
    d_min_angstrom: float = Field(2.0, gt=0.5, description="Resolution to which structure factors go.")
    anomalous: bool = Field(
        False,
        description="Include anomalous scattering: of elements near an edge in each channel, of others at the mean "
        "photon energy. An MTZ has it if it has Bijvoet pairs, whatever is said here.",
    )
    n_shots: int = Field(200, ge=1, description="Number of images.")
    no_hit_fraction: float = Field(0.12, ge=0, le=1, description="Chance that a shot misses all crystals.")
    seed: int = Field(1, ge=0, description="Seed of all that is random. Shot i depends on it and on i alone.")
    detector: DetectorConfig = Field(default_factory=GridDetector, description="Geometry of the detector.")
    readout: ReadoutConfig = Field(default_factory=ReadoutConfig, description="Gain and noise of the detector.")
    pulse: PulseConfig = Field(default_factory=PulseConfig, description="The X-ray pulses.")
    crystal: CrystalConfig = Field(default_factory=CrystalConfig, description="The crystals.")
    water_thickness_um: float = Field(5.0, ge=0, description="Water in the beam, which scatters the background.")
    air_thickness_mm: float = Field(0.0, ge=0, description="Air in the beam before the beam stop.")
    background_profile: str | None = Field(
        None,
        description="CSV file of a measured background: columns q (1/angstrom) and photons a pixel of a mean pulse.",
    )
    oversample: int = Field(1, ge=1, le=10, description="Subpixels along each side of a pixel.")
    sensor_layers: int = Field(
        0, ge=0, le=50, description="Layers of the sensor, for absorption and parallax. None: all stops at its surface."
    )
    device: Literal["cpu", "gpu"] = Field(
        "cpu", description="Where diffraction is computed: gpu needs CuPy, and computes in single precision."
    )

    @field_validator("detector", mode="before")
    @classmethod
    def _grid_where_not_said(cls, value: Any) -> Any:
        return {"type": "grid", **value} if isinstance(value, dict) else value
