"""Small models that several tests use, and what real DIALS makes of files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exafel.io.geometry import Beam, Detector, Panel, Spectrum, rotation_matrix

SCRIPT = Path(__file__).with_name("dxtbx_dump.py")


@pytest.fixture(scope="session")
def ask_dxtbx(dials: Path) -> Callable[..., dict[str, Any]]:
    """Function that sends a request to `dxtbx_dump.py` under DIALS' Python and returns its answer."""
    python = shutil.which("dxtbx.python")
    if python is None:
        pytest.skip("DIALS' own Python is not installed (dxtbx.python)")

    def ask(**request: Any) -> dict[str, Any]:
        done = subprocess.run([python, SCRIPT], input=json.dumps(request), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return ask


def tilted_detector(n_panels: int = 3, *, image_size: tuple[int, int] = (12, 9), parallax: bool = True) -> Detector:
    """Panels of unlike tilt and place, some way downstream."""
    rng = np.random.default_rng(11)
    panels = []
    for number in range(n_panels):
        axis = rng.normal(size=3)
        turn = rotation_matrix(axis / np.linalg.norm(axis), 0.05)
        panels.append(
            Panel(
                name=f"p{number}",
                origin_mm=np.array([-5.0 + 3 * number, 4.0 + 0.1 * number, -80.0 - 0.01 * number]),
                fast_axis=turn @ [1.0, 0.0, 0.0],
                slow_axis=turn @ [0.0, -1.0, 0.0],
                pixel_size_mm=(0.1, 0.11),
                image_size=image_size,
                trusted_range=(-5.0, 60000.0),
                thickness_mm=0.32 if parallax else 0.0,
                material="Si" if parallax else "",
                mu_per_mm=8.0 if parallax else 0.0,
                parallax=parallax,
                mask_rectangles=((2, 1, 4, 3),) if number == 1 else (),
            )
        )
    return Detector(tuple(panels))


def beam_with_spectrum(shift: float = 0.0, channels: int = 5) -> Beam:
    """A beam of a few energy channels around 1.3 A."""
    spectrum = Spectrum(np.linspace(1.29, 1.31, channels) + shift, np.arange(1.0, channels + 1))
    return Beam(spectrum.mean_wavelength(), spectrum=spectrum)


def random_frame(detector: Detector, seed: int) -> list[np.ndarray]:
    """Counts for every panel."""
    rng = np.random.default_rng(seed)
    return [rng.poisson(20, panel.shape).astype(np.int32) for panel in detector.panels]


@pytest.fixture(scope="session")
def models() -> SimpleNamespace:
    """Makers of small detectors, beams and frames."""
    return SimpleNamespace(
        tilted_detector=tilted_detector, beam_with_spectrum=beam_with_spectrum, random_frame=random_frame
    )
