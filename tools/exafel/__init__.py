"""ExaFEL Workflows: serial crystallography and single-particle imaging at X-ray free-electron lasers."""

from importlib.metadata import version

__version__ = version("exafel")
