"""Parameters of the merge step, named as ``cctbx.xfel.merge`` names them where it has the same thing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from exafel.config.base import Model

Cell = tuple[float, float, float, float, float, float]


class InputConfig(Model):
    """Which files of a folder without a manifest are read (a folder of ``dials.stills_process``)."""

    experiments_suffix: str = Field("_integrated.expt", min_length=1, description="End of the experiment files' names.")
    reflections_suffix: str = Field("_integrated.refl", min_length=1, description="End of the reflection files' names.")


class ClusterFilterConfig(Model):
    """Keep lattices whose cell belongs to a cluster of cells."""

    file: str | None = Field(None, description="File cells.json of the cells step.")
    component: int = Field(0, ge=0, description="Number of the cluster in the file, the largest is 0.")
    mahalanobis: float = Field(4.0, gt=0, description="Largest Mahalanobis distance from the cluster.")


class UnitCellFilterConfig(Model):
    """Keep lattices whose cell is near the target cell, or in a cluster of cells."""

    enabled: bool = Field(True, description="Whether lattices are rejected by their cell and Laue group.")
    algorithm: Literal["value", "cluster"] = Field(
        "value", description="value: by the tolerances; cluster: by the spread of a cluster that the cells step found."
    )
    cluster: ClusterFilterConfig = Field(default_factory=ClusterFilterConfig, description="Which cluster.")
    relative_length_tolerance: float = Field(0.1, gt=0, le=1, description="Largest relative difference of an edge.")
    absolute_angle_tolerance_deg: float = Field(2.0, gt=0, description="Largest difference of an angle, degrees.")

    @model_validator(mode="after")
    def _has_cluster(self) -> UnitCellFilterConfig:
        if self.algorithm == "cluster" and self.cluster.file is None:
            raise ValueError("algorithm cluster needs cluster.file, the cells.json of a cells step")
        return self


class NObsFilterConfig(Model):
    """Keep lattices with enough reflections."""

    min: int = Field(15, ge=0, description="Fewest integrated reflections that a lattice must have; 0 keeps all.")


class OutlierFilterConfig(Model):
    """Keep lattices that agree with the reference."""

    min_corr: float = Field(
        0.1, ge=-1, le=1, description="Smallest correlation of a lattice's intensities with the reference's (mark0)."
    )


class FilterConfig(Model):
    """Whole lattices that are left out."""

    n_obs: NObsFilterConfig = Field(default_factory=NObsFilterConfig, description="By number of reflections.")
    unit_cell: UnitCellFilterConfig = Field(default_factory=UnitCellFilterConfig, description="By unit cell.")
    outlier: OutlierFilterConfig = Field(default_factory=OutlierFilterConfig, description="By correlation.")


class PolarizationConfig(Model):
    """Correction for the polarization of the beam (Kahn et al. 1982)."""

    enabled: bool = Field(True, description="Whether intensities are divided by the polarization factor.")
    fraction: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Fraction of the beam polarized in the plane; empty: as each file says (cctbx.xfel.merge: 1).",
    )


class SignificanceFilterConfig(Model):
    """Cut each lattice at the resolution where its mean I/sigma falls below a limit."""

    enabled: bool = Field(True, description="Whether outer shells without signal are cut.")
    n_bins: int = Field(12, ge=1, description="Number of shells wanted.")
    min_ct: int = Field(10, ge=1, description="Fewest reflections a shell should have.")
    max_ct: int = Field(50, ge=1, description="Most reflections a shell should have; more shells are made above it.")
    sigma: float = Field(0.5, description="Mean I/sigma a shell needs; the first that misses it ends the lattice.")

    @model_validator(mode="after")
    def _ordered(self) -> SignificanceFilterConfig:
        if self.max_ct < self.min_ct:
            raise ValueError("max_ct must be at least min_ct")
        return self


class BulkSolventConfig(Model):
    """Flat bulk solvent of a reference that is a structure."""

    enabled: bool = Field(True, description="Whether solvent scattering is added to that of the atoms.")
    k_sol: float = Field(0.35, ge=0, description="Electron density of the solvent, electrons per cubic angstrom.")
    b_sol: float = Field(46.0, ge=0, description="B factor of the solvent, square angstrom.")


class ScalingConfig(Model):
    """How lattices are put on one scale."""

    algorithm: Literal["mark0", "mark1"] = Field(
        "mark1", description="mark0: each lattice to the reference; mark1: no scaling, a plain average."
    )
    model: str | None = Field(None, description="Reference: an MTZ of structure factors or intensities, PDB or mmCIF.")
    mtz_column: str | None = Field(None, description="Column of the reference MTZ; empty: the first that fits.")
    bulk_solvent: BulkSolventConfig = Field(default_factory=BulkSolventConfig, description="For PDB and mmCIF.")


class NoErrorModelConfig(Model):
    """Keep the errors of the integration."""

    model: Literal["none"] = Field("none", description="Name of the error model.")


class Ev11Config(Model):
    """Error model of Evans (2011) fitted as by Brewster et al. (2019)."""

    model: Literal["ev11"] = Field("ev11", description="Name of the error model.")
    n_intensity_bins: int = Field(100, ge=2, description="Number of intensity bins of equal width in the target.")


ErrorsConfig = Annotated[NoErrorModelConfig | Ev11Config, Field(discriminator="model")]


class HashHalvesConfig(Model):
    """Halves by a hash of the experiment identifier: the same for a shot in every run, on every rank."""

    method: Literal["hash"] = Field("hash", description="Name of the method.")
    seed: int = Field(0, ge=0, description="Another seed gives another split.")


class ImageNumberHalvesConfig(Model):
    """Odd and even image numbers: the image's number in its file, else the last digits of the file's name."""

    method: Literal["image_number"] = Field("image_number", description="Name of the method.")


class ListedHalvesConfig(Model):
    """Halves by a list."""

    method: Literal["listed"] = Field("listed", description="Name of the method.")
    odd: tuple[str, ...] = Field(description="Identifiers of the experiments of the odd half; all others are even.")


HalvesConfig = Annotated[HashHalvesConfig | ImageNumberHalvesConfig | ListedHalvesConfig, Field(discriminator="method")]


class StatisticsConfig(Model):
    """What is reported."""

    n_bins: int = Field(10, ge=1, le=1000, description="Number of resolution shells of equal volume.")
    halves: HalvesConfig = Field(default_factory=HashHalvesConfig, description="How shots are split for CC1/2.")
    cciso_model: str | None = Field(None, description="Reference for CCiso; empty: the scaling model, if there is one.")


class MergeConfig(Model):
    """From integrated lattices to merged intensities."""

    input: InputConfig = Field(default_factory=InputConfig, description="Files of folders without a manifest.")
    unit_cell: Cell | None = Field(
        None, description="Target cell (angstrom, degrees); empty: the reference's, else the lattices' median."
    )
    space_group: str | None = Field(
        None, description="Space group to merge in; empty: the reference's, else the one that most lattices have."
    )
    d_min: float | None = Field(
        None, gt=0, description="High resolution limit, angstrom; empty: that of the observations left by the filters."
    )
    d_max: float | None = Field(None, gt=0, description="Low resolution limit, angstrom; empty: none.")
    resolution_scalar: float = Field(
        0.969, gt=0, le=1, description="d_min times this is kept until the average cell is known."
    )
    merge_anomalous: bool = Field(False, description="Whether Bijvoet mates are merged together.")
    minimum_multiplicity: int = Field(2, ge=1, description="Fewest observations of a merged reflection.")
    set_average_unit_cell: bool = Field(
        True, description="Whether the mean cell of the accepted lattices is used for statistics and MTZ."
    )
    polarization: PolarizationConfig = Field(default_factory=PolarizationConfig, description="Polarization.")
    filter: FilterConfig = Field(default_factory=FilterConfig, description="Lattices that are left out.")
    significance_filter: SignificanceFilterConfig = Field(
        default_factory=SignificanceFilterConfig, description="Resolution limit of each lattice."
    )
    scaling: ScalingConfig = Field(default_factory=ScalingConfig, description="Scale of each lattice.")
    error: ErrorsConfig = Field(default_factory=Ev11Config, description="Errors of the intensities.")
    statistics: StatisticsConfig = Field(default_factory=StatisticsConfig, description="What is reported.")
    slice_rows: int = Field(
        2_000_000, ge=1000, description="Observations that a rank sends at once; bounds the memory of the exchange."
    )

    @model_validator(mode="after")
    def _consistent(self) -> MergeConfig:
        if self.scaling.algorithm == "mark0" and self.scaling.model is None:
            raise ValueError("scaling.algorithm mark0 needs scaling.model, the reference to scale to")
        if self.d_min is not None and self.d_max is not None and self.d_max <= self.d_min:
            raise ValueError("d_max must be larger than d_min")
        return self
