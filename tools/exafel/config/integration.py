"""Parameters of prediction and integration."""

from __future__ import annotations

from pydantic import Field

from exafel.config.base import Model


class SignificanceFilterConfig(Model):
    """Cutting the outer shells of a lattice in which nothing is measured."""

    n_bins: int = Field(20, ge=1, description="Resolution bins of equal volume in reciprocal space.")
    isigi_cutoff: float = Field(
        1.0, description="The first bin with a lower mean I/sigma, and all finer ones, are cut."
    )


class IntegrationConfig(Model):
    """Which reflections are integrated, and how."""

    d_min: float | None = Field(None, gt=0, description="Finest resolution, angstrom; None: to the detector's corners.")
    envelope: float = Field(
        1.0,
        gt=0,
        description="Factor on the excitation half width (half mosaicity + d / domain size) of predictions.",
    )
    n_sigma: float = Field(3.0, gt=0, description="Radii of the foreground in standard deviations of the spot profile.")
    profile_fitting: bool = Field(
        False, description="Integrate by profile too, beside summation: columns intensity.prf.value and .variance."
    )
    min_sigma_px: float = Field(0.5, gt=0, description="Smallest standard deviation of the profile, pixels.")
    max_sigma_px: float = Field(
        4.0,
        gt=0,
        description="A lattice whose strong spots spread more widely about their predictions is rejected, pixels.",
    )
    background_gap: float = Field(0.2, ge=0, description="Free space around the foreground, in its radii.")
    background_width: float = Field(1.0, gt=0, description="Width of the background annulus, in foreground radii.")
    min_background_width_px: float = Field(2.5, gt=0, description="Smallest width of the background annulus, pixels.")
    min_background_pixels: int = Field(10, ge=4, description="Background pixels that a reflection needs.")
    outlier_sigma: float = Field(
        4.0, gt=0, description="Background pixels farther from the plane, in standard deviations, are left out."
    )
    max_rejections: int = Field(5, ge=0, description="Rounds of leaving out background pixels.")
    max_overlap: float = Field(
        0.5, ge=0, le=1, description="A reflection that shares more of its foreground with others is not integrated."
    )
    gain: float | None = Field(
        None,
        gt=0,
        description="Counts (ADU) a photon, multiplied with the gain of the panel; null: that of spotfinding.",
    )
    significance_filter: SignificanceFilterConfig | None = Field(
        None, description="Cut outer shells without signal; null: keep all."
    )
