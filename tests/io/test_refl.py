"""Reflection tables as .refl files."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exafel.errors import InputError
from exafel.io.refl import read_refl, write_refl
from exafel.io.reflections import ReflectionTable

KINDS = {
    "id": (np.int64, ()),
    "panel": (np.int32, ()),
    "flags": (np.uint64, ()),
    "entering": (np.bool_, ()),
    "num_pixels.valid": (np.int32, ()),
    "miller_index": (np.int32, (3,)),
    "bbox": (np.int16, (6,)),
    "d": (np.float32, ()),
    "xyzobs.px.value": (np.float64, (3,)),
    "vec2": (np.float64, (2,)),
    "mat3": (np.float64, (3, 3)),
}


@given(data=st.data(), rows=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_there_and_back(tmp_path_factory, data, rows):
    table = ReflectionTable(identifiers={0: "a-b", 1: "c"})
    for name, (dtype, shape) in KINDS.items():
        kind = np.dtype(dtype).kind
        elements = st.integers(0, 2**15 - 1) if kind in "iu" else None
        table[name] = data.draw(hnp.arrays(dtype, (rows, *shape), elements=elements))
    path = tmp_path_factory.mktemp("refl") / "a.refl"
    write_refl(path, table)
    back = read_refl(path)
    assert len(back) == rows
    assert list(back) == list(table)
    assert back.identifiers == table.identifiers
    for name in table:
        np.testing.assert_array_equal(back[name], table[name], err_msg=name)
        assert back[name].flags.writeable
    assert (back["id"].dtype, back["panel"].dtype, back["d"].dtype) == (np.int32, np.uint64, np.float64)


def test_columns_without_a_type_in_dials_are_refused(tmp_path):
    path = tmp_path / "a.refl"
    for values in (np.array(["text"]), np.zeros((1, 4)), np.zeros(1, complex)):
        with pytest.raises(ValueError, match="has no DIALS type"):
            write_refl(path, ReflectionTable({"x": values}))
    with pytest.raises(ValueError, match="do not fit into 'std::size_t'"):
        write_refl(path, ReflectionTable({"panel": np.array([-1])}))
    with pytest.raises(ValueError, match="do not fit into 'int'"):
        write_refl(path, ReflectionTable({"x": np.array([2**40])}))
    assert not path.exists()


def pack(**changes):
    body = {"identifiers": {0: "a"}, "nrows": 2, "data": {"d": ["double", [2, bytes(16)]]}} | changes
    return msgpack.packb(["dials::af::reflection_table", 1, body])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"not msgpack at all", "damaged"),
        (msgpack.packb([1, 2, 3]), "does not start as one"),
        (msgpack.packb(["dials::af::reflection_table", 2, {}]), "version 2"),
        (pack(nrows=-1), "number of rows"),
        (pack(nrows=3), "has 2 rows where the table has 3"),
        (pack(data={"d": ["double", [2, bytes(15)]]}), "does not have the 16 bytes"),
        (pack(data={"d": ["double", [2, "text"]]}), "does not have the 16 bytes"),
        (pack(data={"d": ["double", 2]}), "damaged"),
        (pack(identifiers=[1]), "damaged"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    path = tmp_path / "a.refl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_refl(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_shoeboxes_and_text_are_passed_over(tmp_path):
    path = tmp_path / "a.refl"
    columns = {"shoebox": ["Shoebox<>", [2, b"?"]], "name": ["std::string", [2, b"?"]], "id": ["int", [2, bytes(8)]]}
    path.write_bytes(pack(data=columns))
    assert list(read_refl(path)) == ["id"]


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_refl(tmp_path / "none.refl")
