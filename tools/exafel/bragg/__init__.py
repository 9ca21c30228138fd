"""The diffraction forward model."""
