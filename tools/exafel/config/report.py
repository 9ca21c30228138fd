"""Parameters of the report step."""

from __future__ import annotations

from pydantic import Field

from exafel.config.base import Model


class ReportConfig(Model):
    """The page that shows it all."""

    title: str = Field("", description="Heading of the page. Empty: data set and trial.")
    rate_bins: int = Field(50, ge=1, le=1000, description="Points of the curves of rates along the run.")
    histogram_bins: int = Field(40, ge=2, le=1000, description="Bars of each histogram.")
    draw_images: bool = Field(True, description="Draw images with their spots; needs the image files.")
    image_size_px: int = Field(
        900, ge=100, le=4000, description="Longest side of a drawn detector; larger ones are binned."
    )
