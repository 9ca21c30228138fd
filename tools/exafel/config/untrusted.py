"""Which parts of the detector are not to be trusted, besides what the image files and the mask file say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from exafel.config.base import Model

Point = tuple[float, float]


class _Shape(Model):
    """Part of one panel, or of every panel."""

    panel: int | None = Field(None, ge=0, description="Number of the panel; null: every panel.")


class RectangleConfig(_Shape):
    """Pixels of a rectangle."""

    shape: Literal["rectangle"] = Field(description="The kind of shape.")
    fast: tuple[int, int] = Field(description="First pixel along fast, and the one after the last.")
    slow: tuple[int, int] = Field(description="First pixel along slow, and the one after the last.")


class CircleConfig(_Shape):
    """Pixels whose centres lie in a circle."""

    shape: Literal["circle"] = Field(description="The kind of shape.")
    centre_px: Point = Field(description="Centre along fast and slow, pixels.")
    radius_px: float = Field(gt=0, description="Radius, pixels.")


class PolygonConfig(_Shape):
    """Pixels whose centres lie in a polygon."""

    shape: Literal["polygon"] = Field(description="The kind of shape.")
    corners_px: tuple[Point, ...] = Field(min_length=3, description="Corners along fast and slow, in order, pixels.")


Shape = Annotated[RectangleConfig | CircleConfig | PolygonConfig, Field(discriminator="shape")]


class UntrustedConfig(Model):
    """Pixels that count neither in spot finding nor in integration."""

    shapes: tuple[Shape, ...] = Field((), description="Rectangles, circles and polygons in pixels of a panel.")
    border_px: int = Field(0, ge=0, description="Width of the edge of each panel that is left out, pixels.")
    beam_stop_radius_mm: float | None = Field(
        None, gt=0, description="Radius about the beam, at the detector, of what the beam stop shades."
    )
    below: float | None = Field(None, description="Counts below this are not trusted, whatever the file says.")
    above: float | None = Field(None, description="Counts above this are not trusted, whatever the file says.")
    d_min: float | None = Field(None, gt=0, description="Pixels of finer resolution are left out, angstrom.")
    d_max: float | None = Field(None, gt=0, description="Pixels of coarser resolution are left out, angstrom.")
    resolution_ranges: tuple[tuple[float, float], ...] = Field(
        (), description="Ranges of resolution that are left out, such as powder rings, angstrom."
    )
    ice_ring_width: float | None = Field(
        None, gt=0, description="Leave out rings of hexagonal ice of this full width in 1/d^2, 1/angstrom^2."
    )

    @model_validator(mode="after")
    def _check(self) -> UntrustedConfig:
        if self.d_min is not None and self.d_max is not None and self.d_max <= self.d_min:
            raise ValueError("d_max must be above d_min")
        if self.below is not None and self.above is not None and self.above < self.below:
            raise ValueError("above must not be smaller than below")
        if any(min(pair) <= 0 or pair[0] == pair[1] for pair in self.resolution_ranges):
            raise ValueError("a range of resolution has two different positive ends")
        return self

    @property
    def depends_on_resolution(self) -> bool:
        """Whether what is left out moves with the wavelength."""
        limits = (self.d_min, self.d_max, self.ice_ring_width)
        return bool(self.resolution_ranges) or any(limit is not None for limit in limits)
