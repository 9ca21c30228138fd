"""Parameters of the stills step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exafel.config.base import Model
from exafel.config.indexing import IndexingConfig
from exafel.config.integration import IntegrationConfig
from exafel.config.spotfinding import SpotFindingConfig
from exafel.config.untrusted import UntrustedConfig


class GeometryConfig(Model):
    """What is known better than the image files say."""

    reference: str | None = Field(None, description="An .expt file whose detector replaces that of the images.")
    distance_mm: float | None = Field(
        None,
        gt=0,
        description="Distance along the beam of the mean of the panels' centres; the detector is moved there.",
    )
    wavelength_angstrom: float | None = Field(
        None, gt=0, description="Wavelength of every shot; spectra in the files are then not used."
    )
    mask: str | None = Field(
        None,
        description="NumPy file of booleans, true where a pixel is good; of shape (slow, fast) or (panel, slow, fast).",
    )


class StillsConfig(Model):
    """From images to integrated lattices."""

    engine: Literal["native", "dials"] = Field("native", description="What computes the step.")
    geometry: GeometryConfig = Field(default_factory=GeometryConfig, description="Corrections to the files' metadata.")
    untrusted: UntrustedConfig = Field(
        default_factory=UntrustedConfig, description="Parts of the detector that are left out."
    )
    spotfinding: SpotFindingConfig = Field(default_factory=SpotFindingConfig, description="Finding spots and hits.")
    indexing: IndexingConfig = Field(default_factory=IndexingConfig, description="Indexing and refinement.")
    integration: IntegrationConfig = Field(default_factory=IntegrationConfig, description="Prediction and integration.")
    dials: dict[str, str | int | float | bool] = Field(
        {},
        description="Engine dials: parameters of dials.stills_process by their own names; they win.",
    )
    chunk_size: int = Field(
        16, ge=1, description="Most shots that a rank takes, and writes, at a time; fewer where there are few."
    )
    keep_spots_of: int = Field(
        10, ge=0, description="The strong spots of this many shots, the first of the run, are kept for pictures."
    )
