"""Unpacking of bzip2 against the standard library's, and damage."""

from __future__ import annotations

import bz2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exafel._kernels import decompress_bzip2


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=300).flatmap(lambda b: st.integers(1, 400).map(lambda n: b * n)), max_size=6),
       st.integers(1, 9))  # fmt: skip
def test_whatever_is_packed_comes_back(parts: list[bytes], level: int) -> None:
    data = b"".join(parts)
    assert decompress_bzip2(bz2.compress(data, level)) == data


@pytest.mark.parametrize(("level", "size"), [(1, 1_300_000), (2, 650_000), (9, 2_100_000)])
def test_many_blocks(level: int, size: int) -> None:
    rng = np.random.default_rng(level)
    steps = rng.poisson(2, size).astype(np.int8)
    steps[rng.integers(0, size, 200)] = 120
    steps[size // 3 : size // 3 + 100_000] = 0  # runs across the borders of blocks
    data = steps.tobytes()
    assert decompress_bzip2(bz2.compress(data, level)) == data


def test_streams_one_after_the_other_and_nothing_at_all() -> None:
    assert decompress_bzip2(bz2.compress(b"")) == b""
    assert decompress_bzip2(bz2.compress(b"one ") + bz2.compress(b"two")) == b"one two"
    for rest in (b"", b"BZh", b"BZh9", b"BZx9rest"):
        with pytest.raises(RuntimeError):
            decompress_bzip2(rest)
    with pytest.raises(RuntimeError):
        decompress_bzip2(bz2.compress(b"one") + b"rest")


WHOLE = bytes(np.random.default_rng(0).poisson(3, 30_000).astype(np.uint8))
PACKED = bz2.compress(WHOLE, 1)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found(place: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[place] ^= change
    try:
        text = decompress_bzip2(bytes(damaged))
    except RuntimeError:
        return
    assert text == WHOLE  # the size of the blocks, or the bits that fill the last byte


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PACKED) - 1))
def test_a_file_cut_short_is_found(length: int) -> None:
    with pytest.raises(RuntimeError):
        decompress_bzip2(PACKED[:length])
