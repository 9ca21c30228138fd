"""Single-particle imaging: from photons of many particles to one density, and the simulator that makes such photons."""
