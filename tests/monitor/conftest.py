"""A trial's folder of results as the steps leave it, made of real containers by the project's own writers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exafel.config.merge import MergeConfig
from exafel.config.stills import StillsConfig
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.events import EVENT_DTYPE, EVENT_MAGIC, Stage
from exafel.io.experiment import Experiment, ExperimentList, ImageRef, experiment_identifier
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.manifest import Container, Manifest, describe_container, write_manifest
from exafel.io.nxmx_writer import NXmxWriter
from exafel.io.refl import write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.steps.stills_files import LatticeRow, ShotRow

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

    def events(self, step: str, outcomes: Sequence[str], *, ranks: int = 2) -> None:
        """Write the event records of shots, shot i on rank i % ranks, each taking one second."""
        for rank in range(ranks):
            shots = range(rank, len(outcomes), ranks)
            records = np.zeros(2 * len(shots), dtype=EVENT_DTYPE)
            records["magic"] = EVENT_MAGIC
            records["rank"] = rank
            records["host"] = f"node{rank // 2}".encode()
            records["shot"] = np.repeat(np.array(shots), 2)
            seconds = np.arange(len(records)) / 2 + 100.0
            seconds[1::2] += 0.5
            records["monotonic_s"] = seconds
            stamps = np.datetime64("2026-11-23T05:00:00.000000") + (seconds * 1e6).astype("timedelta64[us]")
            records["iso_time"] = [f"{stamp}Z".encode() for stamp in stamps]
            records["stage"][::2] = Stage.START
            for number, shot in enumerate(shots):
                good = outcomes[shot] == "integrated"
                records["stage"][2 * number + 1] = Stage.DONE if good else Stage.FAIL
                records["reason"][2 * number + 1] = b"" if good else outcomes[shot].encode()
            path = self.trial / step / "events" / f"rank-{rank:05d}.events"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(records.tobytes())

    def frames(self, n_shots: int) -> Path:
        """Write images with a flat background and bright spots at `spot_places`."""
        path = self.trial / "simulate" / "rank-00000.h5"
        rng = np.random.default_rng(7)
        with NXmxWriter(path, detector(), n_shots, "gzip") as writer:
            for shot in range(n_shots):
                pixels = [rng.poisson(10, panel.shape).astype(np.int32) for panel in detector().panels]
                for number, x, y in spot_places(shot):
                    pixels[number][int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] += 400
                writer.append(pixels, Beam(1.3))
        return path

    def stills(self, outcomes: Sequence[str], images: Path, *, ranks: int = 2, kept: int = 10) -> Path:
        """Write the stills step's containers: shot i on rank i % ranks."""
        folder = self.trial / "stills"
        folder.mkdir(parents=True, exist_ok=True)
        containers = []
        for rank in range(ranks):
            shots = range(rank, len(outcomes), ranks)
            rows = [shot_row(shot, outcomes[shot], images, rank) for shot in shots]
            path = folder / f"rank-{rank:05d}_shots.jsonl"
            path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
            containers.append(describe_container(path, "shots", folder=folder, rank=rank, rows=len(rows)))
            good = [shot for shot in shots if outcomes[shot] == "integrated"]
            strong = [_spots(shot, images) for shot in shots if shot < kept]
            tables = {"refl": [_lattice_spots(shot, images) for shot in good], "strong": strong}
            for kind, parts in tables.items():
                path = folder / f"rank-{rank:05d}_{kind}.refl"
                write_refl(path, ReflectionTable.concatenate(parts))
                containers.append(describe_container(path, kind, folder=folder, rank=rank))
            path = folder / f"rank-{rank:05d}.expt"
            write_expt(path, ExperimentList([_experiment(shot, images) for shot in good]))
            containers.append(describe_container(path, "expt", folder=folder, rank=rank, rows=len(good)))
        config = {**StillsConfig().model_dump(mode="json")}
        phases = {"read": 0.01, "index": 0.02}
        return self.manifest("stills", {"cpu_s_per_phase": phases}, containers, ranks=ranks, config=config)

    def merge(self) -> Path:
        """Write a merge step's manifest."""
        return self.manifest("merge", merge_summary(), config=MergeConfig(d_min=2.0).model_dump(mode="json"))


def spot_places(shot: int) -> list[tuple[int, float, float]]:
    """Panel and pixel position of the spots of a shot: three to a panel and one more for every shot."""
    places = [(number, 15.5 + 20 * i, 20.5 + 15 * i) for number in range(2) for i in range(3)]
    return places + [(i % 2, 100.5, 10.5 + 5 * i) for i in range(shot)]


def cell_of(shot: int) -> tuple[float, float, float, float, float, float]:
    """Cell of a shot's lattice: a = b, with a small step from shot to shot."""
    return (CELL[0] + 0.01 * shot, CELL[1] + 0.01 * shot, CELL[2], *CELL[3:])


def shot_row(shot: int, outcome: str, images: Path, rank: int) -> ShotRow:
    """A row of the table of shots, by the stills step's own model."""
    lattice = LatticeRow(
        identifier=experiment_identifier(ImageRef(images, shot), 0),
        cell=cell_of(shot),
        n_indexed=5 + shot,
        n_integrated=20 + shot,
        d_min=2.0,
        mean_i_over_sigma=3.5,
        rmsd_px=0.5,
        rmsd_delta_psi_deg=0.1,
        half_mosaicity_deg=None,
        domain_size_angstrom=1000.0,
    )
    return ShotRow(
        shot=shot,
        file=str(images),
        index=shot,
        rank=rank,
        outcome=outcome,
        reason="" if outcome == "integrated" else f"because of {outcome}",
        n_spots=len(spot_places(shot)),
        sigma_px=None,
        lattices=(lattice,) if outcome == "integrated" else (),
        cpu_s={"read": 0.01, "index": 0.02},
    )


def _table(shot: int, images: Path, column: str) -> ReflectionTable:
    panel, x, y = (np.array(values) for values in zip(*spot_places(shot), strict=True))
    table = ReflectionTable(
        {
            "id": np.zeros(len(panel), dtype=np.int32),
            "panel": panel.astype(np.uint64),
            "flags": np.full(len(panel), Flag.STRONG, dtype=np.uint64),
            column: np.column_stack([x, y, np.full(len(x), 0.5)]),
        }
    )
    table.identifiers = {0: experiment_identifier(ImageRef(images, shot), 0)}
    return table


def _spots(shot: int, images: Path) -> ReflectionTable:
    return _table(shot, images, "xyzobs.px.value")


def _lattice_spots(shot: int, images: Path) -> ReflectionTable:
    return _table(shot, images, "xyzcal.px")


def _experiment(shot: int, images: Path) -> Experiment:
    image = ImageRef(images, shot)
    crystal = Crystal(orthogonalization(cell_of(shot)).T, HALL)
    return Experiment(experiment_identifier(image, 0), Beam(1.3), detector(), image, crystal)


def merge_summary() -> dict[str, Any]:
    """The summary of a merge step with ten shells, the outermost without a CC1/2."""
    limits = np.linspace(0, 0.25, 11)
    shells = [
        {
            "d_max": None if low == 0 else float(low**-0.5),
            "d_min": float(high**-0.5),
            "n_possible": 100,
            "n_unique": 100 - 5 * number,
            "n_obs": 1000 - 90 * number,
            "completeness": 1 - 0.05 * number,
            "multiplicity": 10 - 0.5 * number,
            "mean_i": 50.0,
            "mean_i_over_sigma": 12.0 - number,
            "unmerged_i_over_sigma": 3.0,
            "n_half": 90 - 5 * number,
            "cc_half": None if number == 9 else 0.99 - 0.08 * number,
            "r_split": 0.1 + 0.05 * number,
            "r_int": 0.1 + 0.05 * number,
            "half_scale": 1.0,
            "n_iso": 0,
            "cc_iso": None,
        }
        for number, (low, high) in enumerate(itertools.pairwise(limits))
    ]
    return {
        "n_lattices": 9,
        "n_accepted": 6,
        "reasons": {"unit_cell": 2, "n_obs": 1},
        "space_group": "P 43 21 2",
        "cell": list(CELL),
        "d_min": 2.0,
        "n_obs": 5950,
        "n_unique": 775,
        "completeness": 0.775,
        "multiplicity": 7.677,
        "mean_i_over_sigma": 8.1,
        "cc_half": 0.955,
        "r_split": 0.21,
        "r_int": 0.19,
        "cc_iso": None,
        "sdfac": 1.2,
        "sdb": 0.82,
        "sdadd": 0.65,
        "shells": shells,
    }


def cluster() -> dict[str, Any]:
    """One cluster of the cells step's summary."""
    cell = list(cell_of(4))
    return {
        "space_group": "P 43 21 2",
        "size": 6,
        "fraction": 1.0,
        "mean": cell,
        "median": cell,
        "robust_sigma": [0.02] * 6,
    }


OUTCOMES = (
    "integrated", "no_hit", "integrated", "not_indexed", "integrated", "integrated",
    "no_hit", "integrated", "read_failed", "integrated", "not_indexed", "integrate_failed",
)  # fmt: skip


@pytest.fixture(scope="session")
def full_trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trial in which every step has finished; tests read it and write elsewhere."""
    maker = ResultsMaker(tmp_path_factory.mktemp("results") / "lysozyme" / "000")
    images = maker.frames(len(OUTCOMES))
    maker.manifest("simulate", {"n_shots": len(OUTCOMES)}, ranks=1)
    maker.stills(OUTCOMES, images)
    maker.events("stills", OUTCOMES)
    maker.manifest("cells", {"n_lattices": 6, "n_clustered": 6, "clusters": [cluster()]}, ranks=1)
    maker.merge()
    summary = {
        "n": 7, "n_true": 10, "n_wrong": 1, "n_false": 0,
        "misorientation_deg": {"median": 0.012, "max": 0.05},
        "cell_rms_angstrom": [0.01, 0.011, 0.02],
        "cc_true": 0.97,
        "shells": [
            {"d_max": 20.0, "d_min": 4.0, "n": 50, "cc": 0.98},
            {"d_max": 4.0, "d_min": 2.0, "n": 90, "cc": None},
        ],
    }  # fmt: skip
    maker.manifest("evaluate", summary, ranks=1)
    return maker.trial


@pytest.fixture
def results_maker() -> type[ResultsMaker]:
    """Writer of folders of results of any kind."""
    return ResultsMaker
