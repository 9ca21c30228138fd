"""Files cut short or garbled anywhere give one clear line, whatever the reader: never another kind of error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fabio.cbfimage
import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import read_expt, write_expt
from exafel.io.frames import open_frames
from exafel.io.geometry import Beam
from exafel.io.mtz import MergedData, read_mtz, write_mtz
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import ReflectionTable

HEADER = """# Detector: PILATUS3 300K
# Pixel_size 172e-6 m x 172e-6 m
# Silicon sensor, thickness 0.000450 m
# Count_cutoff 1000 counts
# Wavelength 1.0000 A
# Detector_distance 0.10000 m
# Beam_xy (24.00, 30.00) pixels
"""


def read_frames(path: Path) -> object:
    source = open_frames([path])
    return [(source.beam(i), source.detector(i), source.mask(i), source.frame(i)) for i in range(len(source))]


def make_nxmx(path: Path, models) -> None:
    detector = models.tilted_detector(2)
    with NXmxWriter(path, detector, compression="gzip") as writer:
        for number in range(2):
            writer.append(models.random_frame(detector, number), models.beam_with_spectrum())


def make_cbf(path: Path, models) -> None:
    data = np.random.default_rng(0).poisson(5, (60, 50)).astype(np.int32)
    header = {"_array_data.header_contents": HEADER.replace("\n", "\r\n")}
    fabio.cbfimage.CbfImage(data=data, header=header).write(str(path))


def make_expt(path: Path, models) -> None:
    detector = models.tilted_detector(2)
    write_expt(path, ExperimentList([Experiment("a", Beam(1.0), detector, ImageRef(Path("/x.h5"), 1))]))


def make_refl(path: Path, models) -> None:
    table = ReflectionTable({"id": np.zeros(30, np.int32), "xyz": np.ones((30, 3))}, {0: "a"})
    write_refl(path, table)


def make_mtz(path: Path, models) -> None:
    hkl = np.array([[1, k, 2] for k in range(20)], np.int32)
    write_mtz(path, MergedData(hkl, (50, 60, 70, 90, 90, 90), "P 21 21 21", 1.0, *np.ones((3, 20))))


FORMATS: dict[str, tuple[Callable[..., None], Callable[[Path], object]]] = {
    ".h5": (make_nxmx, read_frames),
    ".cbf": (make_cbf, read_frames),
    ".expt": (make_expt, read_expt),
    ".refl": (make_refl, read_refl),
    ".mtz": (make_mtz, read_mtz),
}


def complaint(read: Callable[[Path], object], path: Path) -> str | None:
    """Return the one line that says why the file cannot be read; None if it can. Other errors fail the test."""
    said = None
    try:
        read(path)
    except InputError as error:
        said = str(error)
    assert said is None or ("\n" not in said and path.name in said)
    return said


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_cut_short_anywhere(models, tmp_path, suffix):
    make, read = FORMATS[suffix]
    path = tmp_path / f"a{suffix}"
    make(path, models)
    assert complaint(read, path) is None
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    cuts = sorted({0, 1, 7, len(content) // 2, *rng.integers(0, len(content) - 100, 20).tolist()})
    outcomes = []
    for cut in cuts:
        path.write_bytes(content[:cut])
        outcomes.append(complaint(read, path))
    assert None not in outcomes


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_garbled_anywhere(models, tmp_path, suffix):
    make, read = FORMATS[suffix]
    path = tmp_path / f"a{suffix}"
    make(path, models)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(2)
    failed = 0
    for _ in range(60):
        damaged = content.copy()
        start = rng.integers(0, min(len(content), 20000) if suffix != ".mtz" else len(content))
        length = int(rng.integers(1, 40))
        damaged[start : start + length] = rng.integers(0, 256, len(damaged[start : start + length]))
        path.write_bytes(damaged.tobytes())
        failed += complaint(read, path) is not None
    assert failed > 0  # what still reads was hit in a place that holds nothing, or in a number
