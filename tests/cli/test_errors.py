"""What a user sees when an input or a key is wrong: one line with what, where and what to do, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from exafel.cli.main import run as run_cli

CONFIG = """\
stills:
  indexing: {unit_cell: [40, 50, 60, 90, 90, 90], space_group: P222}
  integration: {d_min: 1.9}
"""


class Stills:
    """Runs ``exafel stills`` on one path."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def run(self, images: Path, config: str = CONFIG) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        path = self._folder / "config.yaml"
        path.write_text(config)
        self._capsys.readouterr()
        out = self._folder / "out"
        code = run_cli(["stills", "-i", str(images), "-c", str(path), "-o", str(out), "--json"])
        printed = self._capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    def fail(self, images: Path, config: str = CONFIG) -> tuple[int, str]:
        """Exit code and the one line of the error."""
        code, out, err = self.run(images, config)
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("exafel: ")
        assert not (self._folder / "out" / "manifest.json").exists()
        return code, lines[0]


@pytest.fixture
def stills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stills:
    return Stills(tmp_path, capsys)


def cut(path: Path, copy: Path, fraction: float) -> Path:
    """Copy the first part of a file."""
    content = path.read_bytes()
    copy.write_bytes(content[: int(fraction * len(content))])
    return copy


def damage(path: Path, copy: Path) -> Path:
    """Copy a file with a few bytes in its middle changed."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - value for value in content[middle : middle + 8])
    copy.write_bytes(content)
    return copy


def test_other_shots_survive_damaged_cbf_files(stills: Stills, still_cbf_images: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(still_cbf_images, images)
    good = still_cbf_images / "shot_0.cbf"
    damage(good, images / "damaged.cbf")
    cut(good, images / "half.cbf", 0.5)
    cut(good, images / "header_only.cbf", 0.0001)
    (images / "empty.cbf").touch()
    (images / "text.cbf").write_text("these are no pixels\n")
    code, out, err = stills.run(images)
    assert code == 0
    summary = json.loads(out)
    assert summary["outcomes"] == {"integrated": 3, "read_failed": 5}
    assert sum(summary["reasons"].values()) == 5
    assert all(reason.startswith("read_failed: ") for reason in summary["reasons"])
    assert "8 shots: hits 37.5%" in err


@pytest.mark.parametrize("how", ["damaged", "half", "text"])
def test_nothing_but_a_damaged_cbf_is_exit_code_3_with_the_reason(
    stills: Stills, still_cbf_images: Path, tmp_path: Path, how: str
) -> None:
    good, bad = still_cbf_images / "shot_0.cbf", tmp_path / f"{how}.cbf"
    if how == "damaged":
        damage(good, bad)
    elif how == "half":
        cut(good, bad, 0.5)
    else:
        bad.write_text("these are no pixels\n")
    code, line = stills.fail(bad)
    assert code == 3
    out = tmp_path / "out"
    assert f"{out}: none of 1 shots was integrated: 1 read_failed: " in line
    assert "rank-*_shots.jsonl" in line
    (row,) = (json.loads(text) for path in out.glob("rank-*_shots.jsonl") for text in path.read_text().splitlines())
    assert row["file"] == str(bad)
    assert row["reason"] in line


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_a_truncated_hdf5_file_is_named(stills: Stills, still_images: Path, tmp_path: Path, fraction: float) -> None:
    code, line = stills.fail(cut(still_images, tmp_path / "cut.h5", fraction))
    assert code == 1
    assert "cut.h5: " in line


def test_an_empty_folder_is_named_with_what_it_should_hold(stills: Stills, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code, line = stills.fail(empty)
    assert code == 1
    assert f"{empty}: no images in the folder" in line
    assert ".cbf" in line
    assert ".h5" in line


def test_a_file_of_another_kind_is_named(stills: Stills, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    code, line = stills.fail(path)
    assert code == 1
    assert f"{path}: not an image file of a known kind" in line


def test_a_path_that_is_not_there_is_named(stills: Stills, tmp_path: Path) -> None:
    code, line = stills.fail(tmp_path / "absent.h5")
    assert code == 1
    assert f"{tmp_path / 'absent.h5'}: no such" in line


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("stills: {spotfinding: {gian: 2}}", "unknown key 'stills.spotfinding.gian', did you mean 'gain'?"),
        ("stils: {}", "unknown key 'stils', did you mean 'stills'?"),
        ("stills: {spotfinding: {gain: -2}}", "'stills.spotfinding.gain': input should be greater than 0 (got -2)"),
        ("stills: {engine: dails}", "'stills.engine': input should be 'native' or 'dials' (got 'dails')"),
        ("stills: {indexing: {unit_cell: [40, 50, 60, 90, 90, 190]}}", "angles between 0 and 180 degrees"),
        ("stills: [", "not valid YAML"),
    ],
)
def test_a_wrong_key_or_value_is_exit_code_2(stills: Stills, still_cbf_images: Path, config: str, words: str) -> None:
    code, line = stills.fail(still_cbf_images, config + "\n")
    assert code == 2
    assert words in line
