"""Parameters of the stills step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from exafel.config.base import Model
from exafel.config.indexing import IndexingConfig
from exafel.config.integration import IntegrationConfig
from exafel.config.spotfinding import SpotFindingConfig
from exafel.config.untrusted import UntrustedConfig
from exafel.errors import ConfigError


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
    max_shots: int | None = Field(
        None, ge=1, description="Most shots that are processed, evenly spaced over all images; null: all."
    )
    chunk_size: int = Field(
        16, ge=1, description="Most shots that a rank takes, and writes, at a time; fewer where there are few."
    )
    keep_spots_of: int = Field(
        10, ge=0, description="The strong spots of this many shots, the first of the run, are kept for pictures."
    )

    def indexing_with(self, **values: Any) -> StillsConfig:
        """Return the same with other parameters of indexing, which are not checked."""
        return self.model_copy(update={"indexing": self.indexing.model_copy(update=values)})

    def first_pass(self) -> StillsConfig:
        """Return the parameters of the first of two passes: some of the shots, and no cell.

        Raises
        ------
        ConfigError
            Two passes are not asked for.
        """
        if not self.indexing.two_passes:
            raise ConfigError("a first pass looks for an unknown cell", hint="set stills.indexing.two_passes")
        most = min(self.indexing.first_pass_shots, self.max_shots or self.indexing.first_pass_shots)
        return self.indexing_with(two_passes=False).model_copy(update={"max_shots": most})

    def second_pass(self, cells: Path) -> StillsConfig:
        """Return the parameters of the second of two passes, which indexes by results of the cells step.

        The number of shots of the first pass is nothing to it: it is not run again where that changes.
        """
        return self.indexing_with(
            two_passes=False,
            first_pass_shots=IndexingConfig().first_pass_shots,
            unit_cell=None,
            cells=str(cells),
        )
