"""Packing an environment: two archives, named by the hash of what is in them, a large one and a thin one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exafel.config.base import Model
from exafel.errors import EngineError, ExafelError
from exafel.facility.inventory import Entry, base_entries, bytecode, code_entries, stamp
from exafel.io.files import read_json, write_json

_LEVEL = "-3"  # 19 takes a hundred times as long for a tenth of the size
WRAPPER = """#!/bin/sh
# Run a command in this environment, wherever it was unpacked.
code=$(cd "$(dirname "$0")/.." && pwd)
base=$(cd "$code/../{base}" && pwd)
export PATH="$base/bin:$PATH" PYTHONPATH="$code/lib${{PYTHONPATH:+:$PYTHONPATH}}" PYTHONNOUSERSITE=1
export MPLCONFIGDIR="$base/cache/matplotlib"
[ -d "$base/cache/cupy" ] && export CUPY_CACHE_DIR="$base/cache/cupy"
ls "$base"/base/lib/libpython* > /dev/null 2>&1 && export LD_LIBRARY_PATH="$base/base/lib:$LD_LIBRARY_PATH"
exec "$@"
"""


class Layer(Model):
    """One archive of an environment.

    `name` is the folder that it is unpacked to: the layer and the hash of its contents. `stamp` tells by sizes and
    times of files whether it is out of date.
    """

    name: str
    archive: str
    stamp: str
    files: int
    size_mb: float
    packed_mb: float
    seconds: float


class Packed(Model):
    """An environment: what changes with installed packages, and over it this software."""

    base: Layer
    code: Layer

    @property
    def layers(self) -> tuple[Layer, Layer]:
        """Both layers, the one below first."""
        return self.base, self.code


def pack(folder: Path, *, force: bool = False) -> tuple[Packed, list[str]]:
    """Pack the environment that this Python runs in, what of it has changed since it was last packed.

    Parameters
    ----------
    folder
        Where the archives go.
    force
        Pack what has not changed too.

    Returns
    -------
    tuple
        The environment, and which layers were packed now.

    Raises
    ------
    ExafelError
        zstd is not installed, or the archives cannot be written.
    """
    old = None if force else read_packed(folder)
    base, fresh = _layer(folder, "base", base_entries(), old.base if old else None, warm=True)
    wrapper = Entry("bin/exafel-env", content=WRAPPER.format(base=base.name).encode())
    code, renewed = _layer(folder, "code", [*code_entries(), wrapper], old.code if old else None)
    packed = Packed(base=base, code=code)
    write_json(folder / "environment.json", packed.model_dump(mode="json"))
    return packed, [name for name, new in (("base", fresh), ("code", renewed)) if new]


def read_packed(folder: Path) -> Packed | None:
    """Return what was packed last in a folder; None where nothing was, or its archives are gone."""
    path = folder / "environment.json"
    if not path.is_file():
        return None
    packed = Packed.model_validate(read_json(path))
    return packed if all((folder / layer.archive).is_file() for layer in packed.layers) else None


def _layer(
    folder: Path, kind: str, entries: list[Entry], old: Layer | None, *, warm: bool = False
) -> tuple[Layer, bool]:
    mark = stamp(entries)
    if old is not None and old.stamp == mark:
        return old, False
    start = time.perf_counter()
    everything = [*entries, *bytecode(entries), *(_warm_caches() if warm else ())]
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{kind}.", dir=folder)
    os.close(handle)
    try:
        digest, size = _write(Path(temporary), everything)
        name = f"{kind}-{digest[:16]}"
        archive = folder / f"{name}.tar.zst"
        Path(temporary).chmod(0o644)
        Path(temporary).replace(archive)
    finally:
        Path(temporary).unlink(missing_ok=True)
    layer = Layer(
        name=name,
        archive=archive.name,
        stamp=mark,
        files=len(everything),
        size_mb=round(size / 1e6, 1),
        packed_mb=round(archive.stat().st_size / 1e6, 2),
        seconds=round(time.perf_counter() - start, 2),
    )
    return layer, True


def _write(path: Path, entries: Iterable[Entry]) -> tuple[str, int]:
    """Write a compressed archive; return the hash and the size of what is in it, which do not depend on times."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as stream:
            zstd = subprocess.Popen(
                ["zstd", "-q", "-c", _LEVEL, "-T0"], stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.PIPE
            )
    except FileNotFoundError as error:
        raise EngineError("zstd is not installed", hint="Debian: apt-get install zstd") from error
    assert zstd.stdin is not None
    try:
        with zstd, tarfile.open(fileobj=zstd.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for entry in entries:
                data = entry.read()
                digest.update(f"{entry.name}\0{entry.link}\0{entry.is_program()}\0{len(data)}\0".encode())
                digest.update(data)
                size += len(data)
                archive.addfile(_member(entry, len(data)), io.BytesIO(data))
            archive.close()
            zstd.stdin.close()
            said = zstd.stderr.read().decode() if zstd.stderr else ""
    except BrokenPipeError as error:
        raise ExafelError("the archive cannot be written", where=path.parent) from error
    if zstd.returncode != 0:
        raise ExafelError(f"zstd: {said.strip()}", where=path.parent)
    return digest.hexdigest(), size


def _member(entry: Entry, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.name)
    member.size = size
    member.mode = 0o755 if entry.is_program() else 0o644
    if entry.link is not None:
        member.type, member.linkname, member.size = tarfile.SYMTYPE, entry.link, 0
    if entry.source is not None:
        member.mtime = int(entry.source.stat().st_mtime)  # byte-code knows its source by this second
    return member


def _warm_caches() -> list[Entry]:
    """What programs compute at their first start on a machine: the list of fonts, and kernels of GPUs, if any."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MPLCONFIGDIR": folder}
        command = [sys.executable, "-c", "import matplotlib.font_manager"]
        subprocess.run(command, env=environment, capture_output=True, check=False, timeout=300)
        found = [
            Entry(f"cache/matplotlib/{path.name}", content=path.read_bytes()) for path in Path(folder).glob("*.json")
        ]
    kernels = Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))
    found += [Entry(f"cache/cupy/{path.name}", path) for path in sorted(kernels.glob("*")) if path.is_file()]
    return found


def describe(folder: Path) -> dict[str, Any]:
    """What is packed in a folder, and how it went to nodes; for people and programs."""
    packed = read_packed(folder)
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("deployed/*.json"))]
    return {"packed": packed.model_dump(mode="json") if packed else None, "deployed": records}
