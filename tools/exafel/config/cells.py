"""Parameters of the cells step."""

from __future__ import annotations

from pydantic import Field

from exafel.config.base import Model


class CellsConfig(Model):
    """Parameters of the cells step."""

    experiments_suffix: str = Field(
        "_integrated.expt",
        min_length=1,
        description="End of the experiment files' names in folders without a manifest.",
    )
    linking_distance: float | None = Field(
        None,
        gt=0,
        description="Cells closer than this belong together: the norm of the relative differences of edges and the "
        "differences of angles in radian. None: from the density of the cells.",
    )
    min_neighbours: int = Field(
        5, ge=1, description="Cells within the linking distance that make a cell part of a cluster's core."
    )
    min_cluster_fraction: float = Field(
        0.02, ge=0, le=1, description="Clusters with a smaller fraction of all lattices are left out."
    )
    max_clustered: int = Field(
        3000, ge=100, description="Cells that are clustered; of more an evenly spaced part, and the rest follow it."
    )
