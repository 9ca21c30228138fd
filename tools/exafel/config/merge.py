"""Parameters of the merge step."""

from __future__ import annotations

from exafel.config.base import Model


class MergeConfig(Model):
    """Parameters of the merge step."""
