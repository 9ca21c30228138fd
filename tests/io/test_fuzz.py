"""Readers of frames under fuzz: bytes changed, cut out, doubled and put in anywhere end in one clear line, or frames.

Whatever a damaged file says, a reader must not crash, must not raise another kind of error, and where it gives frames
they have the shapes of their panels.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
from pathlib import Path

import fabio.cbfimage
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exafel import _kernels
from exafel.errors import InputError
from exafel.io.frames import open_frames
from exafel.io.nxmx_writer import NXmxWriter

HEADER = """# Detector: PILATUS3 300K
# Pixel_size 172e-6 m x 172e-6 m
# Silicon sensor, thickness 0.000450 m
# Count_cutoff 1000 counts
# Wavelength 1.0000 A
# Detector_distance 0.10000 m
# Beam_xy (24.00, 30.00) pixels
"""

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["change", "cut", "double", "insert"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=30),
    ),
    min_size=1,
    max_size=4,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damage(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, data in edits:
        at, n = int(where * len(content)), len(data)
        middle = {
            "change": data,
            "cut": b"",
            "double": content[at : at + 10 * n] * 2,
            "insert": data + content[at : at + n],
        }[kind]
        content = content[:at] + middle + content[at + (10 * n if kind == "double" else n) :]
    return content


def read_or_complain(path: Path) -> None:
    complaint = ""
    try:
        source = open_frames([path])
        for number in range(len(source)):
            shapes = [panel.shape for panel in source.detector(number).panels]
            assert source.beam(number) is not None
            mask = source.mask(number)
            assert mask is None or [item.shape for item in mask] == shapes
            assert [frame.shape for frame in source.frame(number)] == shapes
    except InputError as error:
        complaint = str(error)
    assert "\n" not in complaint


@pytest.fixture(scope="module")
def files(models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole files of every format by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    data = np.random.default_rng(0).poisson(5, (60, 50)).astype(np.int32)
    header = {"_array_data.header_contents": HEADER.replace("\n", "\r\n")}
    fabio.cbfimage.CbfImage(data=data, header=header).write(str(folder / "a.cbf"))
    plain = (folder / "a.cbf").read_bytes()
    whole = {".cbf": plain, ".cbf.bz2": bz2.compress(plain), ".cbf.gz": gzip.compress(plain, mtime=0)}
    detector = models.tilted_detector(2)
    for compression in ("bitshuffle-lz4", "gzip"):
        path = folder / f"{compression}.h5"
        with NXmxWriter(path, detector, compression=compression) as writer:
            writer.append(models.random_frame(detector, 0), models.beam_with_spectrum())
        whole[f"_{compression}.h5"] = path.read_bytes()
    return whole


@pytest.mark.parametrize("suffix", [".cbf", ".cbf.bz2", ".cbf.gz", "_bitshuffle-lz4.h5", "_gzip.h5"])
@FUZZ
@given(edits=EDITS)
def test_damaged_files(files: dict[str, bytes], tmp_path: Path, suffix: str, edits) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(files[suffix])
    read_or_complain(path)
    path.write_bytes(damage(files[suffix], edits))
    read_or_complain(path)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_packed_pixels_of_any_bytes(data, shape, version2, averaged, correlated) -> None:
    pixels = None
    with contextlib.suppress(ValueError, IndexError):  # the data end too early
        pixels = _kernels.decode_cbf_packed(
            data, shape, version2=version2, averaged=averaged, sections_correlated=correlated
        )
    assert pixels is None or pixels.shape == shape


@pytest.mark.data
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_damaged_cspad_files(shared_data: Path, tmp_path: Path, edits) -> None:
    content = (shared_data / "cspad_thermolysin" / "idx-20130301060858401.cbf").read_bytes()
    path = tmp_path / "a.cbf"
    path.write_bytes(damage(content, edits))
    read_or_complain(path)
