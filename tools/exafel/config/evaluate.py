"""Parameters of the evaluate step."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exafel.config.base import Model


class EvaluateSfxConfig(Model):
    """Parameters of the evaluate step: figures of merit against truth."""

    equivalence: Literal["laue", "lattice"] = Field(
        "laue",
        description="Indexings that count as the same orientation: those of the Laue group, or of the lattice alone "
        "(for crystals with an indexing ambiguity that merging has still to resolve).",
    )
    wrong_deg: float = Field(1.0, gt=0, description="Misorientation above which a lattice counts as wrong.")
    anomalous_model: str | None = Field(
        None, description="PDB or mmCIF file: the anomalous map's heights at its heavy atoms are figures of merit."
    )
    anomalous_elements: tuple[str, ...] = Field(
        ("Fe", "Yb", "Zn", "Mn", "Gd", "Ca", "S"), description="Elements whose atoms are looked at in that map."
    )
    shells: int = Field(10, ge=1, description="Resolution shells of equal numbers of reflections.")
