"""ExaFEL Workflows: serial crystallography and single-particle imaging at X-ray free-electron lasers."""

__version__ = "0.1.0"  # the package's version too: pyproject.toml reads it, which costs nothing when a rank starts
