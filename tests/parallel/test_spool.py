"""Spools: what was appended is read back, whatever a kill cut off the end."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from exafel.parallel.spool import ChunkSpool, read_spool


@given(records=st.lists(st.binary(max_size=200), max_size=6), cut=st.integers(0, 50), more=st.binary(max_size=20))
def test_whole_records_survive_any_cut(tmp_path_factory: object, records: list[bytes], cut: int, more: bytes) -> None:
    path = Path(tmp_path_factory.mktemp("spool")) / "rank.spool"
    with ChunkSpool(path) as spool:
        for record in records:
            spool.append(record)
    assert list(read_spool(path)) == records
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    kept = list(read_spool(path))
    assert kept == records[: len(kept)]
    assert len(kept) >= len(records) - 1 - cut // 16
    with ChunkSpool(path) as spool:
        spool.append(more)
    assert list(read_spool(path)) == [*kept, more]


def test_a_flipped_bit_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "rank.spool"
    with ChunkSpool(path) as spool:
        spool.append(b"first")
        spool.append(b"second")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert list(read_spool(path)) == [b"first"]
