"""Parameters of the cells step."""

from __future__ import annotations

from exafel.config.base import Model


class CellsConfig(Model):
    """Parameters of the cells step."""
