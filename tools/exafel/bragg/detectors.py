"""Detectors to simulate images on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from exafel.config.simulate import ExptDetector, GridDetector, ReadoutConfig, SimulateSfxConfig
from exafel.errors import InputError
from exafel.io.attenuation import mu_per_mm
from exafel.io.expt import read_expt
from exafel.io.geometry import EV_ANGSTROM, Detector, Panel

_THIN_MM = 1e-6
"""Thickness of a sensor that absorbs at its surface: dxtbx refuses a sensor without a thickness."""

FAST, SLOW = np.array([1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])


def simulated_detector(config: SimulateSfxConfig) -> Detector:
    """Detector of a simulation: a grid of panels, or the first one of a DIALS experiment file.

    With sensor layers its pixels have the parallax that their sensor gives them; without, its sensor is thin.

    Raises
    ------
    InputError
        The experiment file cannot be read or has no detector, or nothing is known of how its sensor absorbs.
    """
    if isinstance(config.detector, ExptDetector):
        path = Path(config.detector.path)
        experiments = read_expt(path)
        if not len(experiments):
            raise InputError("no experiment with a detector", where=path)
        detector = experiments[0].detector
    else:
        detector = grid_detector(config.detector, config.readout)
    wavelength = EV_ANGSTROM / config.pulse.photon_energy_ev
    return Detector(tuple(_with_sensor(panel, config.sensor_layers > 0, wavelength) for panel in detector.panels))


def _with_sensor(panel: Panel, absorbs: bool, wavelength_angstrom: float) -> Panel:
    if not absorbs:
        material = panel.material or "Si"
        return replace(panel, thickness_mm=_THIN_MM, mu_per_mm=0.0, material=material, parallax=False)
    return replace(panel, mu_per_mm=mu_per_mm(panel.material, wavelength_angstrom), parallax=True)


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
                    thickness_mm=config.sensor_thickness_mm,
                    material=config.sensor_material,
                    gain=readout.gain,
                )
            )
    return Detector(tuple(panels))
