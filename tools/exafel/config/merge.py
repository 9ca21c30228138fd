"""Parameters of the merge step, named as ``cctbx.xfel.merge`` names them where it has the same thing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from exafel.config.base import Model
from exafel.config.merge_errors import ErrorsConfig, Ev11Config
from exafel.config.scaling import (
    NoReindexingConfig,
    PostrefinementConfig,
    ReindexingConfig,
    ScalingConfig,
    check_scaling,
)

Cell = tuple[float, float, float, float, float, float]
Intensities = Literal["summation", "profile"]


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


class DeltaCcHalfFilterConfig(Model):
    """Leave lattices out that take from CC1/2: Assmann, Brehm & Diederichs (2016)."""

    enabled: bool = Field(False, description="Whether such lattices are left out.")
    n_sigma: float = Field(
        4.0, gt=0, description="Standard deviations below the mean difference that make a lattice an outlier."
    )
    max_rounds: int = Field(1, ge=1, le=20, description="Most rounds; each looks at what the round before has left.")


class FilterConfig(Model):
    """Whole lattices that are left out."""

    n_obs: NObsFilterConfig = Field(default_factory=NObsFilterConfig, description="By number of reflections.")
    unit_cell: UnitCellFilterConfig = Field(default_factory=UnitCellFilterConfig, description="By unit cell.")
    outlier: OutlierFilterConfig = Field(default_factory=OutlierFilterConfig, description="By correlation.")
    delta_cc_half: DeltaCcHalfFilterConfig = Field(
        default_factory=DeltaCcHalfFilterConfig, description="By what each does to CC1/2."
    )


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
    random_splits: int = Field(
        8, ge=0, le=64, description="Number of random splits of the lattices whose CC1/2 is averaged."
    )
    cciso_model: str | None = Field(None, description="Reference for CCiso; empty: the scaling model, if there is one.")


class OutputConfig(Model):
    """What is written beside the merged intensities."""

    scaled: bool = Field(
        False, description="Whether the lattices that were merged are written as scaled .expt and .refl files."
    )
    unmerged_mtz: bool = Field(
        False, description="Whether the observations are written as one unmerged MTZ; rank 0 holds them all for it."
    )


class MergeConfig(Model):
    """From integrated lattices to merged intensities."""

    input: InputConfig = Field(default_factory=InputConfig, description="Files of folders without a manifest.")
    intensities: Intensities = Field(
        "summation",
        description="Which intensities are merged: sums over spots, or profile fits (stills.integration."
        "profile_fitting). With profile, reflections without a profile fit are left out.",
    )
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
    postrefinement: PostrefinementConfig = Field(
        default_factory=PostrefinementConfig, description="Partialities of each lattice."
    )
    reindexing: ReindexingConfig = Field(
        default_factory=NoReindexingConfig, description="Which of several indexings a lattice takes."
    )
    error: ErrorsConfig = Field(default_factory=Ev11Config, description="Errors of the intensities.")
    statistics: StatisticsConfig = Field(default_factory=StatisticsConfig, description="What is reported.")
    output: OutputConfig = Field(default_factory=OutputConfig, description="Files for other programs.")
    accumulate: bool = Field(
        False, description="Whether sums are kept, so that later lattices can be added at the cost of these alone."
    )
    slice_rows: int = Field(
        2_000_000, ge=1000, description="Observations that a rank prepares and sends at once: 24 bytes each."
    )
    rows_in_memory: int = Field(
        20_000_000, ge=1000, description="Observations that a rank holds in memory; beyond it they go to disk in parts."
    )

    @model_validator(mode="after")
    def _consistent(self) -> MergeConfig:
        if self.accumulate and (self.scaling.algorithm != "mark0" or self.error.model not in {"none", "given"}):
            raise ValueError(
                "accumulate needs scaling.algorithm mark0 and error.model none or given, or sums do not add"
            )
        if self.accumulate and (self.filter.delta_cc_half.enabled or self.reindexing.algorithm == "brehm_diederichs"):
            raise ValueError(
                "accumulate cannot be with filter.delta_cc_half or brehm_diederichs, which look at all lattices"
            )
        if self.accumulate and self.d_min is None:
            raise ValueError("accumulate needs d_min")
        if self.error.model == "given" and self.scaling.algorithm != "mark0":
            raise ValueError("error.model given needs scaling.algorithm mark0: <I> is the reference's")
        check_scaling(self.scaling, self.postrefinement, self.reindexing)
        if self.d_min is not None and self.d_max is not None and self.d_max <= self.d_min:
            raise ValueError("d_max must be larger than d_min")
        return self
