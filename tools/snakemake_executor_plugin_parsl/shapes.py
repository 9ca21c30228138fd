"""Shapes of pilots, as a file has them. Without Parsl: Snakemake imports every plugin that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Pilot:
    """The shape of a pilot.

    Parameters
    ----------
    label
        Name by which tasks choose it.
    nodes, gpus_per_node
        What it asks Slurm for; its workers run on the first node and start ranks on all of them by srun.
    max_blocks
        Most pilots of this shape at once.
    walltime_min, drain_min
        Time limit; no task begins in its last `drain_min` minutes.
    workers
        Tasks at once in one pilot.
    status_seconds
        Seconds between questions to Slurm.
    silence_seconds
        A pilot that has been silent for so long is lost, and its tasks go to the next.
    sbatch_options
        Other options of sbatch.
    worker_init
        Lines of shell before the workers start.
    slurm
        False: a process on this machine instead of a job.
    """

    label: str
    nodes: int = 1
    gpus_per_node: int = 0
    max_blocks: int = 1
    walltime_min: int = 60
    drain_min: int = 10
    workers: int = 1
    status_seconds: int = 30
    silence_seconds: int = 120
    sbatch_options: tuple[str, ...] = ()
    worker_init: tuple[str, ...] = ()
    slurm: bool = True


def read_pilots(path: Path) -> tuple[Pilot, ...]:
    """Read the shapes of pilots from YAML: a list of mappings, with the names of `Pilot`'s fields.

    Raises
    ------
    ValueError
        The file is not such a list; the message says what is wrong.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot read the pilots: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: should be a list of pilots")
    return tuple(_pilot(row, path) for row in rows)


def _pilot(row: Mapping[str, Any], path: Path) -> Pilot:
    known = {field.name for field in fields(Pilot)}
    if unknown := sorted(set(row) - known):
        raise ValueError(f"{path}: unknown key '{unknown[0]}' of a pilot; there are {', '.join(sorted(known))}")
    if "label" not in row:
        raise ValueError(f"{path}: a pilot without a label")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Pilot(**values)
