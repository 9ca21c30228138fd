"""Parameters of spot finding; names and defaults are those of DIALS where DIALS has the parameter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from exafel.config.base import Model


class SpotFindingConfig(Model):
    """Strong pixels by the index of dispersion or by rings, joined to spots, filtered, counted."""

    algorithm: Literal["dispersion", "dispersion_extended", "radial"] = Field(
        "dispersion",
        description="How strong pixels are told from background: dispersion and dispersion_extended as DIALS does, by "
        "a window around the pixel; radial by all pixels of its scattering angle, for a strong isotropic background.",
    )
    kernel_size: tuple[int, int] = Field(
        (3, 3), description="Half width (fast, slow) of the window of the local mean and variance, in pixels."
    )
    sigma_background: float = Field(
        6.0, ge=0, description="Standard deviations of the index of dispersion above which a window holds signal."
    )
    sigma_strong: float = Field(
        3.0, ge=0, description="Standard deviations above the local mean at which a pixel is strong."
    )
    global_threshold: float = Field(0.0, description="Value that a strong pixel must exceed, in counts.")
    ring_width_px: float = Field(1.0, gt=0, description="Algorithm radial: width of a ring, in pixels.")
    ring_iterations: int = Field(
        4, ge=1, description="Algorithm radial: rounds of leaving strong pixels out of their ring's statistics."
    )
    min_local: int = Field(2, ge=2, description="Good pixels that a window needs.")
    gain: float = Field(1.0, gt=0, description="Counts (ADU) a photon, multiplied with the gain of the panel.")
    connectivity: Literal[4, 8] = Field(
        8, description="Neighbours of a pixel that are joined to one spot with it; DIALS joins 4."
    )
    min_spot_size: int = Field(3, ge=1, description="Fewest strong pixels of a spot.")
    max_spot_size: int = Field(1000, ge=1, description="Most strong pixels of a spot.")
    min_snr: float | None = Field(
        None, gt=0, description="Smallest intensity of a spot over its standard deviation; null: any."
    )
    max_separation: float = Field(2.0, gt=0, description="Largest distance of a spot's peak from its centroid, pixels.")
    max_strong_pixel_fraction: float = Field(
        0.25, gt=0, le=1, description="An image with more of its pixels strong is refused."
    )
    d_min: float | None = Field(None, gt=0, description="Spots of higher resolution are dropped, angstrom.")
    d_max: float | None = Field(None, gt=0, description="Spots of lower resolution are dropped, angstrom.")
    ice_ring_width: float | None = Field(
        None, gt=0, description="Drop spots in rings of hexagonal ice of this full width in 1/d^2, 1/angstrom^2."
    )
    min_spots: int = Field(16, ge=0, description="Spots that make a shot a hit.")

    @model_validator(mode="after")
    def _check(self) -> SpotFindingConfig:
        if min(self.kernel_size) < 1:
            raise ValueError("kernel_size must be at least 1 pixel both ways")
        if self.max_spot_size < self.min_spot_size:
            raise ValueError("max_spot_size is below min_spot_size")
        if self.d_min is not None and self.d_max is not None and self.d_max <= self.d_min:
            raise ValueError("d_max must be above d_min")
        return self
