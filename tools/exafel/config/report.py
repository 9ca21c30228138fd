"""Parameters of the report step."""

from __future__ import annotations

from exafel.config.base import Model


class ReportConfig(Model):
    """Parameters of the report step."""
