"""Parameters of the merge step's error models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from exafel.config.base import Model


class NoErrorModelConfig(Model):
    """Keep the errors of the integration."""

    model: Literal["none"] = Field("none", description="Name of the error model.")


_MAX_OBSERVATIONS = "Most observations that the model is fitted to; of larger data sets, a part of the reflections."


class Ev11Config(Model):
    """Error model of Evans (2011) fitted as by Brewster et al. (2019)."""

    model: Literal["ev11"] = Field("ev11", description="Name of the error model.")
    n_intensity_bins: int = Field(100, ge=2, description="Number of intensity bins of equal width in the target.")
    max_observations: int = Field(10_000_000, ge=1000, description=_MAX_OBSERVATIONS)


class Mm24Config(Model):
    """Error model of Mittan-Moreau et al. (2024): maximum likelihood of pairwise differences."""

    model: Literal["mm24"] = Field("mm24", description="Name of the error model.")
    constant_sadd: bool = Field(
        False, description="Whether errors in proportion to the intensity are the same for lattices of any correlation."
    )
    tuning_param: float = Field(10.0, gt=2, description="Degrees of freedom of the t distribution of the differences.")
    n_max_differences: int = Field(100, ge=1, description="Most pairs of observations of a reflection.")
    number_of_intensity_bins: int = Field(
        100, ge=1, description="Bins of equal width in <I>, each of which weighs as the root of its observations."
    )
    max_observations: int = Field(2_000_000, ge=1000, description=_MAX_OBSERVATIONS)


class SampleResidualsConfig(Model):
    """Errors from the spread of each reflection's observations."""

    model: Literal["errors_from_sample_residuals"] = Field(
        "errors_from_sample_residuals", description="Name of the error model."
    )


class GivenErrorModelConfig(Model):
    """The formula of ev11 with factors from an earlier merge and the reference's intensities: fits nothing."""

    model: Literal["given"] = Field("given", description="Name of the error model.")
    sdfac: float = Field(1.0, gt=0, description="Factor of all errors.")
    sdb: float = Field(0.0, ge=0, description="Errors that grow with the root of the intensity.")
    sdadd: float = Field(0.0, ge=0, description="Errors in proportion to the intensity.")


ErrorsConfig = Annotated[
    NoErrorModelConfig | Ev11Config | Mm24Config | SampleResidualsConfig | GivenErrorModelConfig,
    Field(discriminator="model"),
]
