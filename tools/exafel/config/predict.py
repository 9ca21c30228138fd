"""Parameters of the predict step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exafel.config.base import Model


class PredictConfig(Model):
    """Parameters of the predict step: which reflections each refined model predicts, and their intensities."""

    d_min: float | None = Field(None, gt=0.5, description="Finest resolution; None: that of the structure factors.")
    d_max: float = Field(999.0, gt=0, description="Lowest resolution, angstrom.")
    shoebox_px: int = Field(13, ge=7, le=51, description="Side of the box of pixels around each reflection.")
    min_photons: float = Field(
        3.0,
        gt=0,
        description="Photons expected of a reflection with its shell's mean intensity, at the least.",
    )
    q_cut: float = Field(
        0.0035,
        gt=0,
        description="Distance of a found spot from the prediction, 1/angstrom, within which it is strong.",
    )
    weak_fraction: float = Field(
        0.67, ge=0, le=1, description="Part of the other reflections that is kept: those nearest to full reflection."
    )
    chunk_size: int = Field(8, ge=1, description="Shots that a rank takes at a time at the most.")
    table_format: Literal["pickle", "parquet"] = Field("pickle", description="Of the table with a row a shot.")
