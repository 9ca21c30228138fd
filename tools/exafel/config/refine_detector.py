"""Parameters of the joint refinement of the detector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from exafel.config.base import Model

Level = Literal["detector", "groups", "panels"]


class RefineDetectorConfig(Model):
    """Rigid motions of the detector's parts, from many indexed shots at once."""

    levels: tuple[Level, ...] = Field(
        ("detector",),
        min_length=1,
        description="Parts that move as rigid bodies, refined one level after the other: the whole detector, groups "
        "of panels, single panels.",
    )
    groups: tuple[tuple[int, ...], ...] | None = Field(
        None,
        description="Level groups: numbers of the panels of each; panels of none stay. null: the groups of the "
        "detector's own hierarchy.",
    )
    depth: int = Field(1, ge=1, description="Level groups: how far below the root of the hierarchy they lie.")
    out_of_plane: bool = Field(
        False,
        description="Levels groups and panels: refine distance and tilt of the parts too, not only shifts across the "
        "beam and the turn about it.",
    )
    refine_cells: bool = Field(True, description="Refine each lattice's cell too; otherwise its orientation only.")
    max_lattices: int = Field(
        1000, ge=1, description="Lattices used, evenly spaced over all; they bound memory and time."
    )
    min_reflections: int = Field(30, ge=6, description="Spots that a part needs to be moved.")
    outlier_sigma: float = Field(
        4.0, gt=0, description="Spots farther from their predictions are left out, in robust standard deviations."
    )
    max_cycles: int = Field(5, ge=1, description="Rounds of outlier rejection and refinement of a level.")
    max_iterations: int = Field(10, ge=1, description="Gauss-Newton steps of a round.")

    @field_validator("groups")
    @classmethod
    def _apart(cls, groups: tuple[tuple[int, ...], ...] | None) -> tuple[tuple[int, ...], ...] | None:
        members = [number for group in groups or () for number in group]
        if len(set(members)) != len(members) or any(not group for group in groups or ()):
            raise ValueError("every group needs a panel, and a panel belongs to one group")
        return groups
