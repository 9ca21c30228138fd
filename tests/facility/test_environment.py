"""Packing and deploying: a node runs what was packed, wherever it lies; changes are seen; full disks are survived."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exafel.cli.main import run as exafel
from exafel.errors import EngineError
from exafel.facility import pack as packing
from exafel.facility.deploy import deploy
from exafel.facility.environments import TarballEnvironment
from exafel.facility.inventory import Entry, base_entries, bytecode, code_entries, stamp
from exafel.facility.pack import pack, read_packed

pytestmark = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v zstd"], capture_output=True, check=False).returncode != 0,
    reason="zstd is not installed (Debian: apt-get install zstd)",
)


def small_base() -> list[Entry]:
    """Interpreter, standard library and what `exafel --version` needs of the packages."""
    packages = (
        "exafel",
        "yaml",
        "_yaml",
        "packaging",
        "typer",
        "rich",
        "pydantic",
        "pygments",
        "click",
        "annotated",
        "typing",
        "markdown_it",
        "mdurl",
        "shell",
    )
    folder = "lib/python"
    return [
        entry
        for entry in base_entries()
        if not entry.name.startswith(folder) or entry.name.split("site-packages/")[-1].startswith(packages)
    ]


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "base_entries", small_base)
        patch.setattr(packing, "_warm_caches", list)
        pack(folder)
    return folder


def tarball(folder: Path, *local: Path) -> TarballEnvironment:
    return TarballEnvironment(
        archive=str(folder), node_local=tuple(map(str, local)), shared=str(folder.parent / "shared-disk")
    )


@pytest.mark.slow
def test_it_runs_from_where_it_was_unpacked_and_nothing_from_here(packed_folder: Path, tmp_path: Path) -> None:
    packed = read_packed(packed_folder)
    assert packed is not None
    done = deploy(packed, packed_folder, tarball(packed_folder, tmp_path))
    assert (done.nodes, done.skipped, done.warnings) == (1, False, [])
    moved = tmp_path / "elsewhere"  # relocatable: the layers find each other
    Path(done.root).rename(moved)
    base = moved / packed.base.name
    (base / "pyvenv.cfg").write_text(f"home = {base}/base/bin\n")
    script = "import exafel, sys, os; print(exafel.__file__, sys.prefix, os.__file__, exafel.__version__)"
    run = [str(moved / packed.code.name / "bin" / "exafel-env"), "python3", "-c", script]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    result = subprocess.run(run, env=clean, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    places = result.stdout.split()[:3]
    assert all(os.path.realpath(place).startswith(str(moved)) for place in places), places
    version = subprocess.run([run[0], "exafel", "--version"], env=clean, capture_output=True, text=True, check=False)
    assert version.stdout.startswith("exafel "), version.stderr


@pytest.mark.slow
def test_what_is_there_is_not_unpacked_again(packed_folder: Path, tmp_path: Path) -> None:
    packed = read_packed(packed_folder)
    assert packed is not None
    kind = tarball(packed_folder, tmp_path)
    deploy(packed, packed_folder, kind)
    again = deploy(packed, packed_folder, kind)
    assert again.skipped
    assert list(again.seconds) == ["look"]


@pytest.mark.slow
def test_a_disk_that_cannot_take_it_is_passed_over(packed_folder: Path, tmp_path: Path) -> None:
    packed = read_packed(packed_folder)
    assert packed is not None
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    done = deploy(packed, packed_folder, tarball(packed_folder, blocked, tmp_path))
    assert done.root.startswith(str(tmp_path))
    assert len(done.warnings) == 1
    last = deploy(packed, packed_folder, tarball(packed_folder, blocked))
    assert "shared-disk" in last.root
    assert "start-up is slow" in last.warnings[-1]


def test_a_damaged_archive_is_never_taken_for_an_environment(packed_folder: Path, tmp_path: Path) -> None:
    packed = read_packed(packed_folder)
    assert packed is not None
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for layer in packed.layers:
        data = (packed_folder / layer.archive).read_bytes()
        (damaged / layer.archive).write_bytes(data[: len(data) // 2])
    with pytest.raises(EngineError):
        deploy(packed, damaged, tarball(damaged, tmp_path / "disk"))
    assert not list(tmp_path.rglob(".complete"))


def test_only_a_changed_layer_is_packed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(packing, "base_entries", lambda: [Entry("base/a", content=b"a")])
    monkeypatch.setattr(packing, "_warm_caches", list)
    monkeypatch.setattr(packing, "code_entries", lambda: [Entry("lib/exafel/module.py", source)])
    folder = tmp_path / "packed"
    first, fresh = pack(folder)
    assert fresh == ["base", "code"]
    assert pack(folder) == (first, [])
    source.write_text("x = 22\n")
    second, fresh = pack(folder)
    assert fresh == ["code"]
    assert second.base == first.base
    assert second.code.name != first.code.name
    os.utime(source, (0, 0))
    third, fresh = pack(folder)
    assert fresh == ["code"], "times alone are no proof"
    assert third.code.name == second.code.name, "but the name is the hash of the contents"


def test_byte_code_is_made_where_there_is_none(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n")
    bad.write_text("x =\n")
    tag = sys.implementation.cache_tag
    made = list(bytecode([Entry("lib/good.py", good), Entry("lib/bad.py", bad)]))
    assert [entry.name for entry in made] == [f"lib/__pycache__/good.{tag}.pyc"]
    assert not list(bytecode([Entry("lib/good.py", good), *made]))


def test_the_inventory_has_what_is_needed_and_nothing_twice() -> None:
    names = [entry.name for entry in (*base_entries(), *code_entries())]
    assert len(names) == len(set(names))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = {name.split("site-packages/")[1].split("/")[0] for name in names if "site-packages/" in name}
    assert {"numpy", "h5py", "gemmi", "snakemake"} <= packages
    assert not {"pytest", "mypy", "ruff", "exafel"} & packages
    assert {f"base/bin/{version}", "bin/python", "bin/exafel", "lib/exafel/cli/main.py"} <= set(names)
    assert any(name.startswith("lib/exafel/_kernels") for name in names)
    assert stamp(code_entries()) == stamp(code_entries())


def test_a_facility_without_archives_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert exafel(["env", "pack", "--facility", "perlmutter"]) == 2
    assert capfd.readouterr().err == "exafel: perlmutter: the environment is 'venv': nothing to pack\n"
