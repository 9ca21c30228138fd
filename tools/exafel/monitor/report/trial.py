"""The folders of one way of processing one data set: which steps have run, with their manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exafel.errors import InputError
from exafel.io.files import read_json
from exafel.io.manifest import MANIFEST_NAME, Manifest, read_manifest

STILLS_STEPS = ("simulate", "stills", "cells", "merge", "stage1", "predict", "stage2", "evaluate")
PARTICLE_STEPS = ("simulate_spi", "spi_hits", "spi_reconstruct", "spi_evaluate")
STEPS = (*STILLS_STEPS, *PARTICLE_STEPS)
"""Steps that the report knows, in the order in which data walks through them."""

_LEFT_BEHIND = {"shots": "rank-*_shots.jsonl", "strong": "rank-*_strong.refl"}
"""Names of what a step of stills leaves even where nothing was integrated."""


@dataclass(frozen=True)
class StepFolder:
    """One step's folder and what became of it.

    Parameters
    ----------
    state
        ``finished``; ``unfinished`` where the folder has no manifest; ``damaged`` where the manifest cannot be read.
    remark
        What is wrong with it, where something is.
    """

    name: str
    path: Path
    state: Literal["finished", "unfinished", "damaged"]
    manifest: Manifest | None = None
    remark: str = ""

    @property
    def summary(self) -> dict[str, Any]:
        """The step's summary; empty where it has not finished."""
        return self.manifest.summary if self.manifest is not None else {}

    def files(self, kind: str) -> list[Path]:
        """Containers of one kind that are there, in rank order.

        Of a step without a manifest, the tables that may say why: a step whose shots all failed leaves them.
        """
        if self.manifest is None:
            return sorted(self.path.glob(_LEFT_BEHIND[kind])) if kind in _LEFT_BEHIND else []
        return [path for path in self.manifest.files(self.path, kind) if path.is_file()]

    def json(self, kind: str) -> Any:
        """Content of the first container of one kind; None where there is none that can be read."""
        for path in self.files(kind):
            try:
                return read_json(path)
            except InputError:
                return None
        return None


@dataclass(frozen=True)
class Trial:
    """One way of processing one data set.

    Parameters
    ----------
    steps
        By name, in the order of `STEPS`; steps without a folder are absent.
    """

    dataset: str
    name: str
    steps: Mapping[str, StepFolder]

    def finished(self, name: str) -> StepFolder | None:
        """Return a step that has finished; None otherwise."""
        step = self.steps.get(name)
        return step if step is not None and step.state == "finished" else None


def find_steps(results: Sequence[Path]) -> dict[str, Path]:
    """Folders of steps, by name, in the order of `STEPS`.

    Parameters
    ----------
    results
        Folders ``<results>/<dataset>/<trial>`` that hold steps' folders, or steps' folders themselves.

    Raises
    ------
    InputError
        There is no such folder, or it neither is a step's nor holds any.
    """
    found: dict[str, Path] = {}
    for folder in results:
        if not folder.is_dir():
            raise InputError(
                "no such folder", where=folder, hint="give the folder that holds stills, cells, merge, ..."
            )
        inside = {name: folder / name for name in STEPS if (folder / name).is_dir()}
        if not inside and folder.resolve().name in STEPS:
            inside = {folder.resolve().name: folder}
        if not inside:
            what = f"none of the folders {', '.join(STEPS)} is here"
            raise InputError(what, where=folder, hint="give <results>/<dataset>/<trial>")
        found.update(inside)
    return {name: found[name] for name in STEPS if name in found}


def read_trial(folders: Mapping[str, Path]) -> Trial:
    """Read the manifests of steps' folders; a step that did not finish is part of the report, not an error."""
    steps = {name: _read_step(name, folders[name]) for name in STEPS if name in folders}
    parent = next(iter(folders.values())).resolve().parent
    return Trial(dataset=parent.parent.name, name=parent.name, steps=steps)


def _read_step(name: str, path: Path) -> StepFolder:
    if not (path / MANIFEST_NAME).is_file():
        return StepFolder(name, path, "unfinished", remark="it is running, was stopped, or nothing usable came out")
    try:
        manifest = read_manifest(path)
    except InputError as error:
        return StepFolder(name, path, "damaged", remark=error.what)
    missing = [item.path for item in manifest.containers if not (path / item.path).is_file()]
    remark = f"{len(missing)} of {len(manifest.containers)} containers are missing" if missing else ""
    return StepFolder(name, path, "finished", manifest, remark)
