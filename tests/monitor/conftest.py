"""A trial's folder of results as the steps leave it, made of real containers by the project's own writers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.events import EVENT_DTYPE, EVENT_MAGIC, Stage
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.files import write_json
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.manifest import Container, Manifest, describe_container, write_manifest
from exafel.io.refl import write_refl
from exafel.io.reflections import Flag, ReflectionTable

CELL = (78.2, 78.2, 38.1, 90.0, 90.0, 90.0)
HALL = "P 4nw 2abw"


def detector() -> Detector:
    """Two panels of 120 x 90 pixels side by side, 100 mm downstream, with a gap of 10 pixels between them."""
    panels = [
        Panel(
            f"p{n}",
            np.array([-12.5 + 13.0 * n, 4.5, -100.0]),
            np.array([1.0, 0, 0]),
            np.array([0, -1.0, 0]),
            (0.1, 0.1),
            (120, 90),
        )
        for n in range(2)
    ]
    return Detector(tuple(panels))


@dataclass
class ResultsMaker:
    """Writes steps' folders under ``<root>/<dataset>/<trial>``."""

    trial: Path

    def manifest(
        self,
        step: str,
        summary: Mapping[str, Any],
        containers: Sequence[Container] = (),
        *,
        ranks: int = 2,
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        folder = self.trial / step
        folder.mkdir(parents=True, exist_ok=True)
        timings = [
            {
                "rank": rank,
                "host": f"node{rank // 2}",
                "started": "2026-11-23T05:00:00+00:00",
                "wall_s": 10.0 + rank,
                "cpu_s": 9.0,
                "phases": {"read": {"wall_s": 2.0, "cpu_s": 1.0}, "index": {"wall_s": 6.0 + rank, "cpu_s": 6.0}},
            }
            for rank in range(ranks)
        ]
        write_manifest(
            folder,
            Manifest(
                step=step,
                engine_version="0.1.0",
                software_version="0.1.0",
                git_describe="v0.1-3-gabcdef0",
                fingerprint="f" * 64,
                config=dict(config or {}),
                containers=tuple(containers),
                summary=dict(summary),
                timings_s={"ranks": timings},
                host={"node": "node0"},
                finished="2026-11-23T05:10:00+00:00",
            ),
        )
        return folder
