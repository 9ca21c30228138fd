"""What an environment consists of: files of the interpreter, the packages and this software, by their new places."""

from __future__ import annotations

import hashlib
import os
import py_compile
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError
from importlib.metadata import distribution as distribution_of
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN_PACKAGES = ("exafel", "snakemake_executor_plugin_parsl")
_STANDARD_LIBRARY_WITHOUT = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages")
_RELOCATABLE = '#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")"/python3 "$0" "$@"\n\' \'\'\'\n'


@dataclass(frozen=True)
class Entry:
    """One file of a layer: where it goes, and what is there: a file, a link's target, or text made here."""

    name: str
    source: Path | None = None
    link: str | None = None
    content: bytes | None = None

    def read(self) -> bytes:
        """Content of the file; empty for a link."""
        if self.content is not None:
            return self.content
        return b"" if self.source is None else self.source.read_bytes()

    def is_program(self) -> bool:
        """Whether it may be executed."""
        if self.source is None:
            return self.name.startswith("bin/")
        return bool(self.source.stat().st_mode & stat.S_IXUSR)

    def changed(self) -> str:
        """Text that changes when the file does, without reading it."""
        if self.source is None:
            return f"{self.name}\0{self.link}\0{hashlib.sha256(self.content or b'').hexdigest()}"
        status = self.source.stat()
        return f"{self.name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}"


def stamp(entries: list[Entry]) -> str:
    """Hash that changes when any file does, by sizes and times alone: quick."""
    return hashlib.sha256("\n".join(sorted(entry.changed() for entry in entries)).encode()).hexdigest()


def base_entries() -> list[Entry]:
    """Files that change when packages are installed: interpreter, standard library, packages, their programs."""
    return [*_interpreter(), *_packages(), *_programs()]


def code_entries() -> list[Entry]:
    """Files of this software: a thin layer over the base."""
    entries: list[Entry] = []
    for package in OWN_PACKAGES:
        spec = find_spec(package)
        for folder in dict.fromkeys(spec.submodule_search_locations or ()) if spec else ():
            entries += _tree(Path(folder), f"lib/{package}")
    kernels = find_spec("exafel._kernels")
    if kernels is not None and kernels.origin is not None:
        entries.append(Entry(f"lib/exafel/{Path(kernels.origin).name}", Path(kernels.origin)))
    return list({entry.name: entry for entry in entries}.values())


def bytecode(entries: list[Entry]) -> Iterator[Entry]:
    """Byte-code of every module that has none beside it, valid wherever and whenever it is unpacked."""
    names = {entry.name for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        compiled = str(Path(folder) / "compiled.pyc")
        for entry in entries:
            path = Path(entry.name)
            cached = f"{path.parent}/__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc"
            if path.suffix != ".py" or entry.source is None or cached in names:
                continue
            try:
                mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
                py_compile.compile(str(entry.source), compiled, entry.name, doraise=True, invalidation_mode=mode)
            except py_compile.PyCompileError:
                continue  # a package's template or a file for another Python: it is left as it is
            yield Entry(cached, content=Path(compiled).read_bytes())


def _interpreter() -> Iterator[Entry]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield Entry(f"base/bin/{version}", Path(sys.executable).resolve())
    for name in ("python", "python3", version):
        yield Entry(f"bin/{name}", link=f"../base/bin/{version}")
    library = sysconfig.get_config_var("LDLIBRARY")
    folder = sysconfig.get_config_var("LIBDIR")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and (Path(folder) / library).is_file():
        shared = (Path(folder) / library).resolve()
        yield Entry(f"base/lib/{shared.name}", shared)
    # In a virtual environment the one path is the interpreter's and the other the environment's, where nothing is.
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    own = [Path(sys.base_prefix) / path.relative_to(sys.prefix) for path in places if path.is_relative_to(sys.prefix)]
    for root in dict.fromkeys([*(path for path in places if not path.is_relative_to(sys.prefix)), *own]):
        yield from _tree(root, f"base/lib/{version}", without=_STANDARD_LIBRARY_WITHOUT)


def _packages() -> Iterator[Entry]:
    """Files of every distribution that the software needs; their own test suites are left where they are."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    needed = _needed()
    own = needed[OWN_PACKAGES[0]]
    for distribution in needed.values():
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            outside = file.parts[0] == ".."  # programs and data, which go elsewhere
            ours = distribution is own and not file.parts[0].endswith(".dist-info")  # the code, or links to a checkout
            if not (outside or ours or "tests" in file.parts) and path.is_file():
                yield Entry(f"lib/{version}/site-packages/{file.as_posix()}", path)


def _needed() -> dict[str, Distribution]:
    """Distributions that ours needs, by name: dependencies, and those of its extras but for tests and documents."""
    found: dict[str, Distribution] = {}
    own = distribution_of(OWN_PACKAGES[0])
    extras = [name for name in own.metadata.get_all("Provides-Extra") or () if name not in ("test", "docs")]
    waiting = [(own, frozenset(["", *extras]))]
    while waiting:
        distribution, wanted = waiting.pop()
        found[canonicalize_name(distribution.metadata["Name"])] = distribution
        for text in distribution.requires or ():
            needed = Requirement(text)
            marker = needed.marker
            if canonicalize_name(needed.name) in found or (
                marker is not None and not any(marker.evaluate({"extra": extra}) for extra in wanted)
            ):
                continue
            with suppress(PackageNotFoundError):  # of an extra that is not installed
                waiting.append((distribution_of(needed.name), frozenset(["", *needed.extras])))
    return dict(sorted(found.items()))


def _programs() -> Iterator[Entry]:
    """Console scripts of what is packed, with a first line that finds the interpreter beside them."""
    scripts = Path(sysconfig.get_path("scripts"))
    files = [file for item in _needed().values() for file in item.files or () if file.parts[0] == ".."]
    names = {file.name for file in files if "bin" in file.parts}
    for path in sorted(scripts / name for name in names):
        if not path.is_file():
            continue
        text = path.read_bytes()
        if text.startswith(b"#!") and b"python" in text.split(b"\n", 1)[0]:
            yield Entry(f"bin/{path.name}", content=_RELOCATABLE.encode() + text.split(b"\n", 1)[1])
        else:
            yield Entry(f"bin/{path.name}", path)


def _tree(root: Path, name: str, *, without: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Files under a folder; `without` are names in the folder itself that are left out."""
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        relative = here.relative_to(root)
        if here == root:
            folders[:] = [item for item in folders if item not in without and not item.startswith("config-")]
            files = [item for item in files if item not in without]
        folders[:] = sorted(item for item in folders if item != "tests")
        for file in sorted(files):
            path = here / file
            if path.is_file() and ".opt-" not in file:  # not a link to nowhere
                yield Entry((Path(name) / relative / file).as_posix(), path)
