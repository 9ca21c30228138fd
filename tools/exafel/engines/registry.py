"""The engines by name."""

from __future__ import annotations

from exafel.engines.base import StillsEngine
from exafel.engines.dials import DialsStills


def stills_engine(name: str) -> StillsEngine | None:
    """Return the engine of a name that `StillsConfig.engine` knows; None for the native one."""
    return DialsStills() if name == "dials" else None
