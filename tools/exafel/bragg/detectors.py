"""Detectors to simulate images on."""

from __future__ import annotations

import numpy as np

from exafel.config.simulate import GridDetector, ReadoutConfig
from exafel.io.geometry import Detector, Panel

_THIN_MM = 1e-6
"""Thickness of the sensor: the forward model knows no parallax, and dxtbx refuses a sensor without a thickness."""

FAST, SLOW = np.array([1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])


def grid_detector(config: GridDetector, readout: ReadoutConfig) -> Detector:
    """Equal panels in a flat grid, centred on the beam and normal to it, the beam travelling along -z.

    Panels are numbered along fast first. A panel's gain and trusted range are the readout's; noise may take counts of
    no photons below zero, so the lower end lies six of its standard deviations below.
    """
    pixel = config.pixel_size_mm
    size = np.array(config.panel_size_px)
    count = np.array(config.panels)
    whole = count * size + (count - 1) * config.gap_px
    low = np.floor(-6 * readout.read_noise_photons * readout.gain)
    panels: list[Panel] = []
    for slow in range(config.panels[1]):
        for fast in range(config.panels[0]):
            corner = (np.array([fast, slow]) * (size + config.gap_px) - whole / 2) * pixel
            panels.append(
                Panel(
                    f"p{len(panels)}",
                    corner[0] * FAST + corner[1] * SLOW - np.array([0.0, 0.0, config.distance_mm]),
                    FAST,
                    SLOW,
                    (pixel, pixel),
                    config.panel_size_px,
                    trusted_range=(float(low), float(np.floor(readout.saturation_photons * readout.gain)) - 1),
                    thickness_mm=_THIN_MM,
                    material="Si",
                    gain=readout.gain,
                )
            )
    return Detector(tuple(panels))
