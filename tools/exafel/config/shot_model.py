"""Parameters of the pixel model that stage 1, predict and stage 2 share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from exafel.config.base import Model
from exafel.config.simulate import PsfConfig


class PixelModelConfig(Model):
    """How pixels are modelled: what the beam and the detector are, and how exactly photons are computed."""

    mtz_column: str | None = Field(
        None, description="Column of the merged data; None: the first of I, I(+), F, F(+) that there is."
    )
    d_min: float | None = Field(
        None, gt=0.5, description="Resolution of the structure factors, angstrom; None: that of the merged data."
    )
    gain: float = Field(1.0, gt=0, description="Counts for one photon, on top of the detector's own gain.")
    read_noise_photons: float = Field(0.5, ge=0, description="Read-out noise sigma_r of the variance M + sigma_r^2.")
    photons: float = Field(1e12, gt=0, description="Photons of a pulse where the image file does not tell.")
    beam_size_um: float = Field(3.0, gt=0, description="Side of the focus. Only the scale G depends on it.")
    psf: PsfConfig | None = Field(None, description="The detector's point spread; none: a photon stays in its pixel.")
    oversample: Annotated[int, Field(ge=1, le=10)] | Literal["auto"] = Field(
        1, description="Subpixels along each side of a pixel; auto: as many as each shot's spots are narrow."
    )
    cut: float = Field(15.0, gt=0, le=80, description="Terms below exp(-cut) of a reflection's maximum are left out.")
    mosaic_blocks: int = Field(24, ge=1, description="Blocks that sample the mosaic spread, where there is one.")
    chunk_size: int = Field(8, ge=1, description="Shots that a rank takes at a time at the most.")
