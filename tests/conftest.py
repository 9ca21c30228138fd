"""Fixtures that every chapter's tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fabio.cbfimage import CbfImage
from hypothesis import settings
from scipy.spatial.transform import Rotation

from exafel.io.crystal import orthogonalization
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.nxmx import NXmxSource
from exafel.io.nxmx_writer import NXmxWriter

# A busy machine is no failure: how long an example may take is left to the tests' own time limit.
settings.register_profile("exafel", deadline=None)
settings.load_profile("exafel")

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and truth beside the checkout; tests that use it carry the marker `data`."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the example data is not beside this checkout (../shared/data)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def dials() -> Path:
    """Folder of the DIALS programs; tests that use it carry the marker `dials`."""
    program = shutil.which("dials.version")
    if program is None:
        pytest.skip("DIALS is not installed (Debian: apt-get install dials)")
    return Path(program).parent


@pytest.fixture(scope="session")
def mpi_environment() -> dict[str, str]:
    """Environment for mpiexec on one machine; tests that use it carry the marker `mpi`."""
    if shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("no mpiexec or no mpi4py (Debian: apt-get install openmpi-bin; pip install 'exafel[mpi]')")
    allow = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    quiet = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **allow, **quiet}


STILL_CELL = (40.0, 50.0, 60.0, 90.0, 90.0, 90.0)


@pytest.fixture(scope="session")
def still_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NXmx file of six shots of an orthorhombic crystal (P222, `STILL_CELL`): shots 0-3 and 5 show one, 4 is blank."""
    pixel_mm, size, wavelength = 0.15, 700, 1.3
    detector = Detector(
        (Panel("p", [-52.0, 52.0, -90.0], [1, 0, 0], [0, -1, 0], (pixel_mm, pixel_mm), (size, size), (-5.0, 65000.0)),)
    )
    beam = Beam(wavelength)
    rng = np.random.default_rng(17)
    path = tmp_path_factory.mktemp("stills") / "stills.h5"
    indices = np.stack(np.meshgrid(*[np.arange(-30, 31)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    with NXmxWriter(path, detector, 6) as writer:
        for number in range(6):
            rotation = Rotation.random(random_state=number).as_matrix()
            r = indices @ (rotation @ np.linalg.inv(orthogonalization(STILL_CELL)).T).T
            ray = beam.s0 + r
            distance = np.linalg.norm(ray, axis=1) - 1 / wavelength
            shown = (np.abs(distance) < 6e-4) & (np.linalg.norm(r, axis=1) < 1 / 1.9) & indices.any(axis=1)
            panel, xy = detector.ray_to_pixel(ray[shown])
            image = np.full((size, size), 4.0)
            for x, y in xy[panel >= 0] if number != 4 else []:
                add_spot(image, x, y, 300.0 * rng.exponential() + 60.0)
            writer.append([rng.poisson(image).astype(np.int32)], beam)
    return path


@pytest.fixture(scope="session")
def still_cbf_images(still_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three miniCBF files, ``shot_0.cbf`` to ``shot_2.cbf``: the first shots of `still_images`."""
    folder = tmp_path_factory.mktemp("cbf")
    source = NXmxSource(still_images)
    for number in range(3):
        panel, beam = source.detector(number)[0], source.beam(number)
        x, y = (abs(panel.origin_mm[axis]) / panel.pixel_size_mm[axis] for axis in (0, 1))
        lines = (
            "# Detector: PILATUS 700K, S/N 00-0000",
            "# 2024-06-01T12:00:00.000",
            f"# Pixel_size {panel.pixel_size_mm[0]}e-3 m x {panel.pixel_size_mm[1]}e-3 m",
            "# Silicon sensor, thickness 0.000320 m",
            "# Exposure_time 1.0 s",
            "# Count_cutoff 65000 counts",
            f"# Wavelength {beam.wavelength_angstrom} A",
            f"# Detector_distance {-panel.origin_mm[2]}e-3 m",
            f"# Beam_xy ({x}, {y}) pixels",
            "# Start_angle 0.0000 deg.",
            "# Angle_increment 0.0000 deg.",
        )
        header = {
            "_array_data.header_convention": "PILATUS_1.2",
            "_array_data.header_contents": "\r\n".join(lines),
        }
        CbfImage(data=source.frame(number)[0].astype(np.int32), header=header).write(str(folder / f"shot_{number}.cbf"))
    return folder


def add_spot(image: np.ndarray, x: float, y: float, counts: float, sigma_px: float = 0.9) -> None:
    """Add a Gaussian spot to an image of shape (slow, fast), in place."""
    reach = int(np.ceil(6 * sigma_px))
    y0, y1 = max(int(y) - reach, 0), min(int(y) + reach + 1, image.shape[0])
    x0, x1 = max(int(x) - reach, 0), min(int(x) + reach + 1, image.shape[1])
    rows, columns = np.mgrid[y0:y1, x0:x1] + 0.5
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma_px**2))
    image[y0:y1, x0:x1] += counts / (2 * np.pi * sigma_px**2) * spot
