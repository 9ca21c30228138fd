"""Parameters of the simulate step."""

from __future__ import annotations

from exafel.config.base import Model


class SimulateSfxConfig(Model):
    """Parameters of the simulate step."""
