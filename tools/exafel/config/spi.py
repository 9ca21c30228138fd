"""Parameters of the steps of single-particle imaging."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from exafel.config.base import Model


class SpiHitsConfig(Model):
    """Parameters of the spi hits step: which shots show one particle."""

    lit_photons: float = Field(1.0, gt=0, description="Photons from which a pixel counts as lit.")
    min_lit_pixels: int = Field(20, ge=0, description="Lit pixels that a hit has at least.")
    min_photons: float = Field(50.0, ge=0, description="Photons that a hit has at least.")
    background_sigma: float = Field(
        5.0, gt=0, description="Deviations by which a hit's chi2 against the mean blank shot exceeds what noise gives."
    )
    size_range_angstrom: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="Sizes of single particles. Empty: about the median size of hits, by size_tolerance."
    )
    size_tolerance: float = Field(0.25, gt=0, description="Largest relative deviation of a single particle's size.")
    multiple_photons: float = Field(
        1.6, gt=1, description="Photons, relative to the median of hits of that size, from which there are several."
    )


class PhasingConfig(Model):
    """How the phases of a density are found."""

    algorithm: Literal["raar", "hio", "dm", "sf"] = Field(
        "raar", description="Iterations that search (sf: solvent flipping); er ends them."
    )
    iterations: int = Field(240, ge=1, description="Iterations of the algorithm.")
    er_iterations: int = Field(40, ge=0, description="Iterations of error reduction at the end.")
    beta: float = Field(0.9, gt=0, le=1, description="Feedback of raar and hio.")
    shrinkwraps: int = Field(4, ge=0, description="How often the support is drawn anew.")
    shrinkwrap_sigma_voxels: float = Field(1.0, gt=0, description="Blur before the support is drawn anew.")
    shrinkwrap_threshold: float = Field(0.1, gt=0, lt=1, description="Border, as a fraction of the largest density.")
    positive: bool = Field(True, description="Forbid negative density.")
    edge_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="How far measured amplitudes are imposed at the last resolution; wholly out to half of it, and less"
        " from there. With few photons 0.7.",
    )
    volume_angstrom3: PositiveFloat | None = Field(
        None,
        description="Volume of the particle, which the support then has: about 1.21 Å³ a dalton. Empty: threshold.",
    )
    symmetric: bool = Field(
        False,
        description="Average the density over the point group: the start, and whenever the support is drawn anew.",
    )
    starts: int = Field(4, ge=1, description="Random starts of the last phasing; the phase transfer is between them.")
    averaged: int | None = Field(
        None,
        ge=1,
        description="Starts of the least R-factor whose mean is the density, and that the phase transfer is between."
        " Empty: all that came to an end near the best.",
    )


class MergingConfig(Model):
    """How images become an autocorrelation."""

    weight_power: float = Field(1.0, description="Weight of a pixel: |s| to this power. 1 makes up for its density.")
    regularisation: tuple[PositiveFloat, ...] = Field(
        (0.1, 0.01), min_length=1, description="λ in units of the sum of weights; the best on held-out images."
    )
    held_out: int = Field(20, ge=2, description="One image in so many is held out to choose λ; others every time.")
    steps: int = Field(30, ge=1, description="Largest number of conjugate-gradient steps.")
    tolerance: float = Field(1e-3, gt=0, lt=1, description="Relative residual at which they end.")


class MatchingConfig(Model):
    """How orientations are found."""

    score: Literal["auto", "distance", "poisson"] = Field(
        "auto", description="auto: poisson where pixels hold whole photons, less than one on average."
    )
    weight_power: float = Field(2.0, description="Weight of a pixel in the distance: |s| to this power.")
    references: int = Field(3000, ge=10, description="Random reference orientations of a global generation.")
    refine_from: int = Field(
        8, ge=0, description="Generation of a start from which orientations are also refined one by one."
    )
    local_from: int = Field(
        16, ge=0, description="Generation of a start from which they are only refined, without global references."
    )
    candidates: int = Field(1, ge=1, description="Best references of an image that are refined.")
    refine_steps: int = Field(3, ge=1, description="Gauss-Newton steps of a refinement.")
    soft: float = Field(
        50.0,
        ge=1,
        le=200,
        description="Orientations that an image is merged in, by weight, in the first generation of a start; they get"
        " fewer by equal factors. 1: the best from the beginning.",
    )
    soft_end: float | None = Field(
        None,
        ge=1,
        le=200,
        description="And from generation soft_until on, while orientations are not refined. Empty: 4 with the score"
        " poisson, where the best one is uncertain, else 1.",
    )
    soft_until: int | None = Field(
        None, ge=1, description="Generation of a start from which they are soft_end. Empty: refine_from."
    )


class MarchingConfig(Model):
    """From low resolution to high."""

    d_start_angstrom: PositiveFloat | None = Field(
        None, description="Resolution of the first generations. Empty: a twelfth of the diameter."
    )
    step: float = Field(1.25, gt=1, description="Largest factor by which the resolution is raised at once.")
    first_generations: int = Field(16, ge=1, description="Generations at the first resolution.")
    generations: int = Field(3, ge=1, description="Generations at each further one.")
    starts: int = Field(3, ge=1, description="Random starts, of which each half goes on with the one that fits best.")
    start_generations: int = Field(12, ge=1, description="Generations of a start before they are compared.")
    correlation: float = Field(
        0.5, gt=0, lt=1, description="Half-set correlation of intensities up to which the data go on to be trusted."
    )
    patience: int = Field(2, ge=0, description="Times that a resolution is given further generations before the end.")


class SpiReconstructConfig(Model):
    """Parameters of the spi reconstruct step: orientations, classes and densities from shots of single particles."""

    diameter_angstrom: float = Field(
        description="Largest extent of the particle. Too small a value cuts the autocorrelation and loses resolution."
    )
    d_min_angstrom: float = Field(10.0, gt=0, description="Resolution to end at.")
    symmetry: str = Field("C1", description="Point group that is imposed: C1, C2, ... D2, D3, ... T, O, I.")
    classes: int = Field(1, ge=1, le=20, description="Conformations.")
    halves: bool = Field(True, description="Reconstruct two independent halves of the images, from the start.")
    model: Literal["merged", "phased"] = Field(
        "merged", description="What images are matched with: the merged intensities, or those of the phased density."
    )
    marching: MarchingConfig = Field(default_factory=MarchingConfig, description="From low resolution to high.")
    matching: MatchingConfig = Field(default_factory=MatchingConfig, description="How orientations are found.")
    merging: MergingConfig = Field(default_factory=MergingConfig, description="How images become intensities.")
    phasing: PhasingConfig = Field(default_factory=PhasingConfig, description="How phases are found.")
    max_generations: int = Field(60, ge=1, description="Generations after which it ends in any case.")
    block: int = Field(10, ge=1, description="Generations of one job of the workflow; images stay in memory meanwhile.")
    block_images: int = Field(500, ge=1, description="Images that are worked on together; ranks share such blocks.")
    min_images: int = Field(50, ge=2, description="Images below which nothing can be said.")
    use_orientations: bool = Field(False, description="Begin with the orientations in the files (to check the rest).")
    backend: Literal["cpu", "gpu"] = Field("cpu", description="cpu: FINUFFT and SciPy; gpu: CuPy and cuFINUFFT.")
    threads: int = Field(1, ge=1, description="Threads of one rank.")
    seed: int = Field(1, ge=0, description="Seed of all that is random.")


class SpiEvaluateConfig(Model):
    """Parameters of the spi evaluate step: a reconstruction against the truth."""

    structures: tuple[str, ...] = Field((), description="True structures, one a conformation. Empty: no densities.")
    symmetry: str = Field("C1", description="True point group, modulo which orientations are compared.")
    d_align_angstrom: float = Field(20.0, gt=0, description="Resolution at which densities are brought together.")
