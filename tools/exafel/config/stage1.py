"""Parameters of the stage1 step, which refines the model of each shot against its pixels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from exafel.config.base import Model
from exafel.config.shot_model import PixelModelConfig

Refinable = Literal["scale", "turns", "cell", "n_cells", "eta", "detector_z", "b_factor"]


class UnitsConfig(Model):
    """Steps that change the pixels about equally: the unit scale of the parameters."""

    scale: PositiveFloat = Field(0.2, description="Of the scale G, relative.")
    turns: PositiveFloat = Field(0.01, description="Of the turns about x, y, z, degrees.")
    cell: PositiveFloat = Field(5e-4, description="Of the free lengths of the cell, relative; of 100 degrees, angles.")
    n_cells: PositiveFloat = Field(0.1, description="Of the unit cells of a mosaic block along a, b, c, relative.")
    eta: PositiveFloat = Field(0.1, description="Of the mosaic spread, relative.")
    detector_z: PositiveFloat = Field(0.05, description="Of the shift of the detector along the beam, mm.")
    b_factor: PositiveFloat = Field(1.0, description="Of the B factor, angstrom^2.")


class LimitsConfig(Model):
    """How far parameters may go."""

    turns: PositiveFloat = Field(2.0, description="Largest turn about x, y, z, degrees.")
    cell: PositiveFloat = Field(0.03, description="Largest relative change of a length; of 100 degrees, of an angle.")
    n_cells: tuple[PositiveFloat, PositiveFloat] = Field((3.0, 1600.0), description="Smallest and largest value.")
    eta: tuple[PositiveFloat, PositiveFloat] = Field((1e-3, 1.0), description="Smallest and largest, degrees.")
    detector_z: PositiveFloat = Field(2.0, description="Largest shift, mm.")
    b_factor: PositiveFloat = Field(200.0, description="Largest absolute value, angstrom^2.")


class RestraintsConfig(Model):
    """Standard deviations of restraints to the starting values, in the terms of the units; None: no restraint."""

    scale: PositiveFloat | None = Field(None, description="Relative.")
    turns: PositiveFloat | None = Field(None, description="Degrees.")
    cell: PositiveFloat | None = Field(None, description="Relative; of 100 degrees, for angles.")
    n_cells: PositiveFloat | None = Field(None, description="Relative.")
    eta: PositiveFloat | None = Field(None, description="Relative.")
    detector_z: PositiveFloat | None = Field(None, description="mm.")
    b_factor: PositiveFloat | None = Field(None, description="angstrom^2.")


class Stage1Config(PixelModelConfig):
    """Parameters of the stage1 step."""

    refine: tuple[Refinable, ...] = Field(
        ("scale", "turns", "cell", "n_cells"), description="What is refined; the rest stays at its start."
    )
    n_cells: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (20.0, 20.0, 20.0), description="Unit cells of a mosaic block along a, b, c to start from."
    )
    eta_deg: float = Field(0.0, ge=0, lt=2, description="Mosaic spread to start from; 0: one mosaic block.")
    units: UnitsConfig = Field(default_factory=UnitsConfig, description="Unit scale of the parameters.")
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="Bounds of the parameters.")
    restraints: RestraintsConfig = Field(default_factory=RestraintsConfig, description="Restraints to the start.")
    shoebox_px: int = Field(15, ge=7, le=51, description="Side of the box of pixels around each spot.")
    spot_radius_px: float = Field(4.0, gt=0, description="Radius around a spot that is no background at first.")
    min_spots: int = Field(6, ge=1, description="Spots below which a shot is not refined.")
    max_evaluations: int = Field(60, ge=5, description="Evaluations of the model a fit.")
    max_box_z: float = Field(
        5.0,
        gt=1,
        description="Boxes with a root mean square Z above this, and above three times the median, are left out.",
    )
    max_rejected: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Shots of which a larger part of the boxes does not show the model's pattern are flagged.",
    )
    max_sigma_z: float = Field(4.0, gt=1, description="Shots that end with a higher sigma(Z) are flagged.")
    table_format: Literal["pickle", "parquet"] = Field(
        "pickle", description="Of the table with a row a shot; parquet needs pyarrow: pip install 'exafel[parquet]'."
    )

    @model_validator(mode="after")
    def _spread_needs_a_start(self) -> Stage1Config:
        if "eta" in self.refine and self.eta_deg <= 0:
            raise ValueError("to refine eta, give eta_deg to start from")
        return self
