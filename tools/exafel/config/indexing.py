"""Parameters of indexing, refinement of one lattice, and mosaicity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from exafel.config.base import Model

UnitCell = tuple[float, float, float, float, float, float]


class RefinementConfig(Model):
    """Refinement of orientation and symmetry-constrained cell against spot positions and excitation errors."""

    max_macrocycles: int = Field(12, ge=1, description="Largest number of rounds of re-indexing and refinement.")
    max_iterations: int = Field(10, ge=1, description="Largest number of Levenberg-Marquardt steps in a round.")
    refine_cell: bool = Field(True, description="Refine the cell within its symmetry; otherwise the orientation only.")
    centroid_error_px: float = Field(
        0.15, gt=0, description="Smallest standard error of a spot position that is believed, px."
    )
    outlier_rejection: Literal["sauter_poon", "none"] = Field(
        "sauter_poon", description="Sauter and Poon (2010): compare sorted radial displacements with a Rayleigh law."
    )
    use_spectrum: bool = Field(
        True, description="Where the shot's spectrum is known, give every spot the wavelength that it selects."
    )
    estimate_bandwidth: bool = Field(
        True,
        description="Where no spectrum is used, estimate the bandwidth from the spots and correct for it likewise.",
    )


class MosaicityConfig(Model):
    """Maximum-likelihood mosaicity; a fit that ends at a bound is flagged and that parameter left out."""

    min_domain_size_angstrom: float = Field(100.0, gt=0, description="Smallest domain size, as DIALS counts it.")
    max_domain_size_angstrom: float = Field(50000.0, gt=0, description="Largest domain size that can be told apart.")
    max_half_mosaicity_deg: float = Field(2.0, gt=0, description="Largest half mosaicity.")


class IndexingConfig(Model):
    """Indexing of single shots, with a known unit cell or without."""

    unit_cell: UnitCell | None = Field(
        None,
        description="Known cell a, b, c (angstrom), alpha, beta, gamma (deg); null: found from each shot's spots.",
    )
    space_group: str | None = Field(
        None,
        description="Space group; its point group constrains the cell. null: P1 with a known cell; without one the "
        "highest symmetry that the spots bear.",
    )
    cells: str | None = Field(
        None,
        description="Results of exafel cells, whose largest cluster's cell and space group are used in place of "
        "unit_cell: the second pass where no cell was known for the first.",
    )
    two_passes: bool = Field(
        False,
        description="Without a known cell: index some shots without it, cluster their cells, and index all shots with "
        "the consensus cell. Workflows run both passes; the command exafel stills takes --first-pass and --cells.",
    )
    first_pass_shots: int = Field(
        1000, ge=1, description="Most shots of the first of two passes, evenly spaced over all images."
    )
    max_cell_angstrom: float = Field(
        400.0, gt=20, description="Without a known cell: longest axis that is looked for, if shorter ones do not fit."
    )
    max_obliquity_deg: float = Field(
        2.0,
        gt=0,
        le=5,
        description="Without a known cell: how far an axis may be from the normal of the planes across it to be tried "
        "as an axis of symmetry.",
    )
    min_spots: int = Field(12, ge=4, description="Shots with fewer spots are not tried.")
    max_search_spots: int = Field(
        160, ge=10, description="Spots, from low resolution on, that the search for the orientation uses."
    )
    search_d_min_angstrom: float = Field(2.0, gt=0, description="Finest resolution that the search uses.")
    hkl_tolerance: float = Field(
        0.3, gt=0, lt=0.5, description="Largest distance of a spot's fractional index from an integer."
    )
    min_indexed: int = Field(10, ge=4, description="Fewest spots that a lattice must index.")
    min_indexed_fraction: float = Field(
        0.15, ge=0, le=1, description="Smallest fraction of the spots not yet indexed that a lattice must index."
    )
    min_chance_exponent: float = Field(
        40.0,
        ge=0,
        description="Smallest -ln of the probability that a lattice laid at random fits so many spots so well; the "
        "best orientation reaches 20 on spots of no lattice, and a wrong cell that shares planes with the true one 33.",
    )
    cell_tolerance: float = Field(
        0.03, gt=0, lt=0.5, description="Largest relative change of a cell edge, and of an angle in radian."
    )
    max_lattices: int = Field(1, ge=1, description="Largest number of lattices looked for in one shot.")
    refinement: RefinementConfig = Field(default_factory=RefinementConfig, description="Refinement of a lattice.")
    mosaicity: MosaicityConfig = Field(default_factory=MosaicityConfig, description="Mosaicity of a lattice.")

    @model_validator(mode="after")
    def _one_cell(self) -> IndexingConfig:
        if (self.cells is not None) + (self.unit_cell is not None) + self.two_passes > 1:
            raise ValueError("give one of unit_cell, cells and two_passes")
        return self

    @field_validator("unit_cell")
    @classmethod
    def _possible(cls, cell: UnitCell | None) -> UnitCell | None:
        if cell is not None and (min(cell[:3]) <= 0 or not all(0 < angle < 180 for angle in cell[3:])):
            raise ValueError("a unit cell has positive edges and angles between 0 and 180 degrees")
        return cell
