"""CBF files: compressions against fabio, headers, packing by bzip2 and gzip, damage."""

from __future__ import annotations

import bz2
import gzip
import pickle
from pathlib import Path

import fabio.cbfimage
import fabio.compression
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel.errors import FrameError
from exafel.io.cbf import CbfSource
from exafel.io.cbf_file import DamagedSectionError, Section

HEADER = """\
# Detector: PILATUS3 300K, S/N 3-0100
# Pixel_size 172e-6 m x 172e-6 m
# Silicon sensor, thickness 0.000450 m
# Count_cutoff 1000 counts
# Wavelength 1.0000 A
# Detector_distance 0.10000 m
# Beam_xy (240.00, 300.00) pixels
# Flux 3e10
# Detector_2theta 0.0000 deg.
"""
SHAPE = (619, 487)


def pixels() -> np.ndarray:
    data = np.random.default_rng(3).poisson(3, SHAPE).astype(np.int32)
    data[195:212] = -1
    data[5, 7], data[6, 7], data[8, 9] = 70000, 999, 1000
    return data


def write_minicbf(path: Path, data: np.ndarray, header: str = HEADER) -> Path:
    """Write with fabio, which is not what reads it."""
    comments = {
        "_array_data.header_convention": '"PILATUS_1.2"',
        "_array_data.header_contents": header.replace("\n", "\r\n"),
    }
    fabio.cbfimage.CbfImage(data=data, header=comments).write(str(path))
    content = path.read_bytes()
    if path.suffix == ".bz2":
        path.write_bytes(bz2.compress(content))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_minicbf(tmp_path / "a_0001.cbf", pixels())


@pytest.mark.parametrize("suffix", ["", ".bz2", ".gz"])
def test_minicbf(tmp_path, plain, suffix):
    path = tmp_path / f"b.cbf{suffix}"
    pack = {"": bytes, ".bz2": bz2.compress, ".gz": gzip.compress}[suffix]
    path.write_bytes(pack(plain.read_bytes()))
    source = CbfSource([path])
    (data,) = source.frame(0)
    np.testing.assert_array_equal(data, pixels())
    panel = source.detector(0)[0]
    np.testing.assert_allclose(panel.origin_mm, [-240 * 0.172, 300 * 0.172, -100])
    assert panel.image_size == (487, 619)
    assert panel.trusted_range == (0, 999)
    assert panel.thickness_mm == pytest.approx(0.45)
    assert panel.mask_rectangles == ((0, 195, 487, 212), (0, 407, 487, 424))
    assert source.beam(0).wavelength_angstrom == 1.0
    assert source.beam(0).flux == 3e10
    assert source.image(0).path == path
    assert source.mask(0) is None
    good = panel.trusted_mask(data)
    assert not good[195:212].any()
    assert not good[407:424].any()
    assert not good[5, 7]
    assert good[6, 7]
    assert not good[8, 9]


def test_frames_with_one_geometry_share_one_detector(tmp_path, plain):
    other = write_minicbf(tmp_path / "c.cbf", pixels(), HEADER.replace("0.10000 m", "0.20000 m"))
    source = CbfSource([plain, plain, other])
    assert source.detector(0) is source.detector(1)
    assert source.detector(2)[0].origin_mm[2] == -200
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.frame(2)[0], pixels())


@given(
    st.lists(
        st.one_of(st.integers(-200, 200), st.integers(-40000, 40000), st.integers(-(2**30), 2**30)),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=200, deadline=None)
def test_byte_offsets_are_decoded_as_fabio_encodes_them(values):
    data = np.array(values, dtype=np.int32)
    packed = bytes(fabio.compression.compByteOffset(data))
    np.testing.assert_array_equal(byte_offset_section(packed, len(data)).array().ravel(), data)


@given(st.lists(st.integers(-40000, 40000), min_size=1, max_size=100), st.data())
@settings(max_examples=200, deadline=None)
def test_byte_offset_data_cut_anywhere_end_too_early(values, choice):
    packed = bytes(fabio.compression.compByteOffset(np.array(values, dtype=np.int32)))
    cut = packed[: choice.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises(DamagedSectionError, match="too early"):
        byte_offset_section(cut, len(values)).array()


def byte_offset_section(data, count):
    header = {
        "content-type": 'application/octet-stream; conversions="x-CBF_BYTE_OFFSET"',
        "x-binary-element-type": '"signed 32-bit integer"',
        "x-binary-number-of-elements": str(count),
        "x-binary-size-fastest-dimension": str(count),
    }
    return Section(header, data)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"# Wavelength 1.0000 A", b"# Wavelengths 1.0000", "does not say the wavelength"),
        (b"# Detector_distance", b"# Detector_dustance", "does not say the distance"),
        (b"# Wavelength 1.0000 A", b"# Wavelength 0.0000 A", "the wavelength is 0 A"),
        (b"# Detector_2theta 0.0000", b"# Detector_2theta 9.0000", "two-theta of 9 deg"),
        (b"# Wavelength 1.0000 A", b"# Wavelength 99.000 A", "no attenuation coefficient of Si"),
        (b"x-CBF_BYTE_OFFSET", b"x-CBF_CANONICAL__", "is not supported"),
        (b"X-Binary-Size: ", b"X-Binary-Sise: ", "does not say its size"),
        (b"X-Binary-Size-Fastest-Dimension: 487", b"X-Binary-Size-Fastest-Dimension: 486", "do not make 301453"),
        (b"\x0c\x1a\x04\xd5", b"\x0c\x1a\x04\xd4", "has no start"),
    ],
)
def test_a_damaged_header_costs_only_its_frame(tmp_path, plain, old, new, message):
    content = plain.read_bytes()
    assert old in content
    damaged = tmp_path / "d.cbf"
    damaged.write_bytes(
        content.replace(old, new).replace(b"data_", b"daat_") if b"PNG" in new else content.replace(old, new)
    )
    source = CbfSource([damaged, plain])
    with pytest.raises(FrameError, match=message) as caught:
        source.frame(0)
    assert str(caught.value).startswith(str(damaged))
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(source.frame(1)[0], pixels())


def test_one_changed_pixel_is_found_by_the_checksum(plain):
    content = bytearray(plain.read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 5000] ^= 1
    plain.write_bytes(bytes(content))
    with pytest.raises(FrameError, match="checksum of the pixels is wrong"):
        CbfSource([plain]).frame(0)


@pytest.mark.parametrize("suffix", ["", ".bz2", ".gz"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9])
def test_a_file_cut_short(tmp_path, suffix, kept):
    path = write_minicbf(tmp_path / f"e.cbf{suffix}", pixels())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FrameError, match=str(path)) as caught:
        CbfSource([path]).frame(0)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FrameError, match="No such file"):
        CbfSource([tmp_path / "none.cbf"]).detector(0)


def test_frames_out_of_range(plain):
    source = CbfSource([plain])
    for call in (source.frame, source.beam, source.detector, source.mask, source.image):
        with pytest.raises(IndexError):
            call(1)
        with pytest.raises(IndexError):
            call(-1)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" * 900, b"hello", bytes(5000)])
def test_what_is_no_cbf(tmp_path, content):
    path = tmp_path / "picture.cbf"
    path.write_bytes(content)
    with pytest.raises(FrameError, match="not a CBF file"):
        CbfSource([path]).frame(0)
