"""Parameters of the stills step."""

from __future__ import annotations

from exafel.config.base import Model


class StillsConfig(Model):
    """Parameters of the stills step."""
