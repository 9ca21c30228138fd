"""Geometry from the comments in a miniCBF header, as Dectris detectors write it."""

from __future__ import annotations

import re

import gemmi
import numpy as np

from exafel.errors import InputError
from exafel.io.attenuation import mu_per_mm
from exafel.io.geometry import Beam, Detector, Panel

_MODULES = {
    # name in the header: pixels of a module (fast, slow), gap between modules (fast, slow); Dectris' user manuals
    "PILATUS": ((487, 195), (7, 17)),
    "EIGER2": ((1028, 512), (12, 38)),
    "EIGER": ((1030, 514), (10, 37)),
}
_NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
_REQUIRED = {
    "pixel size": rf"Pixel_size\s+{_NUMBER}\s*m\s*x\s*{_NUMBER}\s*m",
    "distance": rf"Detector_distance\s+{_NUMBER}\s*m",
    "beam centre": rf"Beam_xy\s+\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)",
    "wavelength": rf"Wavelength\s+{_NUMBER}\s*A",
}


def minicbf_geometry(block: gemmi.cif.Block) -> tuple[Detector, Beam]:
    """Detector and beam of a miniCBF file.

    The detector stands perpendicular to the beam, fast along x and slow along -y, as dxtbx reads it. A pixel is
    trusted from 0 up to, but not with, the count cut-off.

    Raises
    ------
    InputError
        The header does not say the distance, the beam centre, the wavelength or the pixel size; or the detector is
        on a two-theta arm.
    """
    text = gemmi.cif.as_string(block.find_value("_array_data.header_contents"))
    found = {name: re.search(pattern, text) for name, pattern in _REQUIRED.items()}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise InputError(f"the header does not say the {' or the '.join(missing)}")
    numbers = {name: [float(x) for x in match.groups()] for name, match in found.items() if match is not None}
    two_theta = _number(rf"Detector_2theta\s+{_NUMBER}", text)
    if two_theta:
        raise InputError(f"a detector at two-theta of {two_theta:g} deg is not supported in miniCBF")
    wavelength = numbers["wavelength"][0]
    if not wavelength > 0:
        raise InputError(f"the wavelength is {wavelength:g} A")
    beam = Beam(wavelength, flux=_number(rf"\bFlux\s+{_NUMBER}", text) or 0.0)
    size = _image_size(block)
    pixel = (1000 * numbers["pixel size"][0], 1000 * numbers["pixel size"][1])
    centre = numbers["beam centre"]
    origin = np.array([-centre[0] * pixel[0], centre[1] * pixel[1], -1000 * numbers["distance"][0]])
    thickness, material = _sensor(text)
    cutoff = _number(rf"Count_cutoff\s+{_NUMBER}", text)
    panel = Panel(
        name="Panel",
        origin_mm=origin,
        fast_axis=np.array([1.0, 0.0, 0.0]),
        slow_axis=np.array([0.0, -1.0, 0.0]),
        pixel_size_mm=pixel,
        image_size=size,
        trusted_range=(0.0, float(0x7FFFFFFF) if cutoff is None else cutoff - 1),
        thickness_mm=thickness,
        material=material,
        mu_per_mm=mu_per_mm(material, wavelength) if material else 0.0,
        parallax=bool(material),
        mask_rectangles=_gaps(text, size),
    )
    return Detector((panel,)), beam


def _number(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return None if match is None else float(match.group(1))


def _image_size(block: gemmi.cif.Block) -> tuple[int, int]:
    mime = gemmi.cif.as_string(block.find_value("_array_data.data") or "")
    sizes = [
        re.search(rf"X-Binary-Size-{which}-Dimension:\s*(\d+)", mime, re.IGNORECASE) for which in ("Fastest", "Second")
    ]
    if sizes[0] is None or sizes[1] is None:
        raise InputError("the header does not say the size of the image")
    return int(sizes[0].group(1)), int(sizes[1].group(1))


def _sensor(text: str) -> tuple[float, str]:
    """Thickness in mm and material; none where the header names no sensor that we know."""
    match = re.search(rf"#\s*(Silicon|CdTe|GaAs)\s+sensor,?\s+thickness\s+{_NUMBER}\s*m", text, re.IGNORECASE)
    if match is None:
        return 0.0, ""
    material = {"silicon": "Si", "cdte": "CdTe", "gaas": "GaAs"}[match.group(1).lower()]
    return 1000 * float(match.group(2)), material


def _gaps(text: str, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], ...]:
    """Rectangles between the modules of a detector whose size is a whole number of them."""
    detector = re.search(r"Detector:?\s*(.*)", text)
    name = "" if detector is None else detector.group(1).upper().replace(" ", "")
    key = next((key for key in _MODULES if key in name), None)
    if key is None:
        return ()
    module, gap = _MODULES[key]
    starts = [range(module[i], size[i], module[i] + gap[i]) for i in (0, 1)]
    if any((size[i] + gap[i]) % (module[i] + gap[i]) for i in (0, 1)):
        return ()
    columns = [(start, 0, start + gap[0], size[1]) for start in starts[0]]
    rows = [(0, start, size[0], start + gap[1]) for start in starts[1]]
    return tuple(columns + rows)
