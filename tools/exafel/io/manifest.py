"""Manifests: what a step wrote, from what, with which parameters; written last, so a folder with one is complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from exafel.config.base import Model, validate
from exafel.errors import ConfigError, InputError
from exafel.io.files import read_json, sha256_file, write_json

MANIFEST_NAME = "manifest.json"


class Container(Model):
    """One file of results.

    `path` is relative to the manifest's folder. `kind` says what it is: ``expt``, ``refl``, ``frames``, ``mtz``...
    """

    path: str
    kind: str
    rank: int | None = None
    rows: int = 0
    size_bytes: int
    sha256: str


class InputRecord(Model):
    """One input: a step's folder by the hash of its manifest, or a raw file by size and time of change."""

    path: str
    sha256: str


class Manifest(Model):
    """The record of a finished step."""

    step: str
    engine: str = "native"
    engine_version: str
    software_version: str
    git_describe: str = ""
    fingerprint: str = Field(description="Hash of step, engine, configuration and inputs: what makes a re-run a no-op.")
    config: dict[str, Any]
    inputs: tuple[InputRecord, ...] = ()
    containers: tuple[Container, ...] = ()
    summary: dict[str, Any] = {}
    timings_s: dict[str, Any] = {}
    host: dict[str, Any] = {}
    finished: str = ""

    def files(self, folder: Path, kind: str) -> list[Path]:
        """Containers of one kind, as paths under `folder`, in rank order."""
        chosen = [item for item in self.containers if item.kind == kind]
        return [folder / item.path for item in sorted(chosen, key=lambda item: (item.rank or 0, item.path))]


def fingerprint(step: str, engine: str, config: Mapping[str, Any], inputs: Sequence[InputRecord]) -> str:
    """Hash that two runs share exactly if they would do the same: step, engine, configuration and input contents."""
    content = {"step": step, "engine": engine, "config": config, "inputs": sorted(item.sha256 for item in inputs)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def describe_container(path: Path, kind: str, *, folder: Path, rank: int | None = None, rows: int = 0) -> Container:
    """Record a file just written: its size and checksum are read from the disk."""
    return Container(
        path=str(path.relative_to(folder)),
        kind=kind,
        rank=rank,
        rows=rows,
        size_bytes=path.stat().st_size,
        sha256=sha256_file(path),
    )


def describe_input(path: Path) -> InputRecord:
    """Record an input: a step's folder by its manifest's hash, any other file by name, size and time of change.

    A folder without a manifest (images, results of other programs) is recorded by the files that lie in it.

    Raises
    ------
    InputError
        The path does not exist.
    """
    manifest = path / MANIFEST_NAME
    if manifest.is_file():
        return InputRecord(path=str(path), sha256=sha256_file(manifest))
    digest = hashlib.sha256()
    try:
        files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        for file in files:
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path) from error
    return InputRecord(path=str(path), sha256=digest.hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` atomically."""
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished step.

    Raises
    ------
    InputError
        The folder is missing, the step has not finished there, or the manifest is damaged.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, hint="give the output folder of a finished step")
    if not path.is_file():
        raise InputError(
            "no manifest.json: the step has not finished here", where=folder, hint="run it again, it resumes"
        )
    try:
        return validate(Manifest, read_json(path), where=path)
    except (ConfigError, InputError) as error:
        hint = "delete it and run that step again"
        raise InputError(f"damaged manifest: {error.what}", where=path, hint=hint) from error


def verify_containers(folder: Path, manifest: Manifest) -> None:
    """Check that every container is there with the size it had.

    Raises
    ------
    InputError
        A container is missing or was changed.
    """
    for item in manifest.containers:
        path = folder / item.path
        size = path.stat().st_size if path.is_file() else -1
        if size != item.size_bytes:
            what = "missing" if size < 0 else f"{size} bytes where the manifest has {item.size_bytes}"
            raise InputError(f"container {what}", where=path, hint=f"delete {folder} and run the step again")
