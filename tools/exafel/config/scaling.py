"""Parameters of the merge step that make lattices alike: scale, postrefinement, indexing ambiguity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from exafel.config.base import Model


class BulkSolventConfig(Model):
    """Flat bulk solvent of a reference that is a structure."""

    enabled: bool = Field(True, description="Whether solvent scattering is added to that of the atoms.")
    k_sol: float = Field(0.35, ge=0, description="Electron density of the solvent, electrons per cubic angstrom.")
    b_sol: float = Field(46.0, ge=0, description="B factor of the solvent, square angstrom.")


class SelfReferenceConfig(Model):
    """Scaling to the merged intensities themselves, again and again."""

    max_cycles: int = Field(10, ge=1, le=100, description="Most cycles of merging and scaling.")
    tolerance: float = Field(
        0.002, gt=0, description="Cycles end when the scales change by less than this, rms of their logarithm."
    )


class ScalingConfig(Model):
    """How lattices are put on one scale."""

    algorithm: Literal["mark0", "mark1", "self"] = Field(
        "mark1",
        description="mark0: each lattice to the reference; mark1: no scaling, a plain average; self: to the lattices' "
        "own merged intensities, in cycles.",
    )
    model: str | None = Field(None, description="Reference: an MTZ of structure factors or intensities, PDB or mmCIF.")
    mtz_column: str | None = Field(None, description="Column of the reference MTZ; empty: the first that fits.")
    bulk_solvent: BulkSolventConfig = Field(default_factory=BulkSolventConfig, description="For PDB and mmCIF.")
    self_reference: SelfReferenceConfig = Field(default_factory=SelfReferenceConfig, description="For algorithm self.")


PostrefinedParameter = Literal["G", "B", "RS", "ETA", "thetax", "thetay"]


class PostrefinementConfig(Model):
    """Refinement of each lattice's scale, B factor and orientation against the reference, for its partialities."""

    enabled: bool = Field(False, description="Whether lattices are postrefined; scaling must be mark0 or self.")
    algorithm: Literal["rs", "rs2"] = Field(
        "rs2", description="rs: L-BFGS, unit weights; rs2: Levenberg-Marquardt, weighted as target_weighting says."
    )
    refine: tuple[PostrefinedParameter, ...] = Field(
        ("G", "B", "RS", "ETA", "thetax", "thetay"),
        min_length=1,
        description="Parameters: scale, B factor, radius RS of the reciprocal-lattice nodes at the origin, its growth "
        "ETA with 1/(2 d), rotations about x and y. cctbx.xfel.merge: no RS, no ETA.",
    )
    target_weighting: Literal["unit", "variance", "gentle", "relative"] = Field(
        "relative",
        description="Weights of rs2: 1; 1/variance; abs(I)/variance; or 1/(variance + (0.3 G I_reference)^2), by which "
        "weak reflections count as much as strong ones.",
    )
    partiality_threshold: float = Field(0.2, ge=0, lt=1, description="Reflections of smaller partiality are left out.")
    min_reflections: int = Field(3, ge=1, description="Fewest reflections above it that a lattice must have.")
    max_rotation_deg: float = Field(0.5, gt=0, le=10, description="Largest rotation, degrees; beyond it: left out.")
    max_b_factor: float = Field(
        25.0, gt=0, description="Largest B factor of either sign, square angstrom; beyond it: left out."
    )
    min_corr: float = Field(-1.0, ge=-1, le=1, description="Smallest correlation with the reference afterwards.")


class NoReindexingConfig(Model):
    """Lattices are taken as they were indexed."""

    algorithm: Literal["none"] = Field("none", description="Name of the algorithm.")


class ReferenceReindexingConfig(Model):
    """Each lattice takes the indexing that agrees best with a reference."""

    algorithm: Literal["reference"] = Field("reference", description="Name of the algorithm.")
    model: str | None = Field(None, description="The reference; empty: scaling.model.")
    max_obliquity_deg: float = Field(1.5, ge=0, le=20, description="Metric tolerance of the operators looked for.")


class BrehmDiederichsConfig(Model):
    """Indexings that make the lattices agree with each other: Brehm & Diederichs (2014), Acta Cryst. D70, 101-109."""

    algorithm: Literal["brehm_diederichs"] = Field("brehm_diederichs", description="Name of the algorithm.")
    max_lattices: PositiveInt = Field(
        500, description="Lattices compared pair by pair; the others are compared with what these give together."
    )
    min_common: int = Field(5, ge=3, description="Fewest reflections that two lattices must share to be compared.")
    dimensions: int = Field(2, ge=2, le=10, description="Dimensions of the space that the lattices are spread in.")
    max_obliquity_deg: float = Field(1.5, ge=0, le=20, description="Metric tolerance of the operators looked for.")


ReindexingConfig = Annotated[
    NoReindexingConfig | ReferenceReindexingConfig | BrehmDiederichsConfig, Field(discriminator="algorithm")
]


def check_scaling(scaling: ScalingConfig, postrefinement: PostrefinementConfig, reindexing: ReindexingConfig) -> None:
    """Check that the references that these need are there.

    Raises
    ------
    ValueError
        One is missing.
    """
    if scaling.algorithm == "mark0" and scaling.model is None:
        raise ValueError("scaling.algorithm mark0 needs scaling.model, the reference to scale to")
    if postrefinement.enabled and scaling.algorithm == "mark1":
        raise ValueError("postrefinement needs scaling.algorithm mark0 or self, so that there is a reference")
    if isinstance(reindexing, ReferenceReindexingConfig) and reindexing.model is None and scaling.model is None:
        raise ValueError("reindexing.algorithm reference needs reindexing.model or scaling.model")
