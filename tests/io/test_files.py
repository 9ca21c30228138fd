"""Files that are whole or not there, and manifests that notice change."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from exafel.errors import InputError
from exafel.io.files import atomic_write, read_json, sha256_file, write_json
from exafel.io.manifest import describe_container, describe_input, fingerprint, read_manifest


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.bin"
    with atomic_write(path) as stream:
        stream.write(b"old")
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(path)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.bin"]
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def _write_and_fail(path: Path) -> None:
    with atomic_write(path) as stream:
        stream.write(b"new, but")
        raise ZeroDivisionError


def test_a_write_that_the_system_cuts_short_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit of file size stands for a full disk: the write fails half-way with the system's own error."""
    code = (
        "import resource, sys; from pathlib import Path; from exafel.io.files import atomic_write\n"
        "from exafel.errors import ExafelError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with atomic_write(Path(sys.argv[1])) as stream: stream.write(bytes(100_000))\n"
        "except ExafelError as error: print(error)\n"
    )
    path = tmp_path / "table.bin"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot write: File too large\n"
    assert list(tmp_path.iterdir()) == []


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
