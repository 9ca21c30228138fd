"""Files that are whole or not there, and manifests that notice change."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from exafel.errors import ExafelError, InputError
from exafel.io.files import atomic_write, read_json, sha256_file, write_json
from exafel.io.manifest import describe_container, describe_input, fingerprint, read_manifest


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.bin"
    with atomic_write(path) as stream:
        stream.write(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as stream:
        stream.write(b"new, but")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.bin"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_a_full_disk_is_one_line() -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(ExafelError, match="cannot write"), atomic_write(device / "x"):
        pass


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_damaged_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(InputError, match=r"x\.json: not valid JSON"):
        read_json(path)
    with pytest.raises(InputError, match="no such folder"):
        read_manifest(tmp_path / "absent")


def test_checksums_are_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    expected = hashlib.sha256(b"content").hexdigest()
    assert sha256_file(path) == expected
    container = describe_container(path, "refl", folder=tmp_path, rank=1, rows=2)
    assert (container.path, container.size_bytes, container.sha256) == ("a.bin", 7, expected)


def test_a_folder_of_images_changes_with_any_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.cbf").write_bytes(b"1")
    first = describe_input(tmp_path)
    assert describe_input(tmp_path) == first
    (tmp_path / "b.cbf").write_bytes(b"2")
    assert describe_input(tmp_path).sha256 != first.sha256


def test_the_fingerprint_depends_on_what_decides_results_only(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("22")
    records = [describe_input(one), describe_input(two)]
    mark = fingerprint("stills", "native", {"a": 1, "b": 2}, records)
    assert fingerprint("stills", "native", {"b": 2, "a": 1}, records) == mark
    assert fingerprint("stills", "dials", {"a": 1, "b": 2}, records) != mark
    assert fingerprint("stills", "native", {"a": 1, "b": 3}, records) != mark
    assert fingerprint("stills", "native", {"a": 1, "b": 2}, records[:1]) != mark
