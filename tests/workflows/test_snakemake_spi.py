"""Snakemake's chain of single particles: blocks of generations one after the other, and what it says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

STRUCTURE = Path(__file__).resolve().parents[2] / "workflows" / "config" / "demo" / "1a8o.pdb"
STEPS = {"simulate_spi", "spi_hits", "spi_generations", "spi_reconstruct", "spi_evaluate", "report"}


def planned(output: str) -> dict[str, int]:
    """Rules that a dry run would run, with the number of their jobs."""
    found = re.findall(r"^([a-z_]+) +(\d+)$", output, flags=re.MULTILINE)
    return {name: int(n) for name, n in found if name not in ("all", "total")}


def test_a_dry_run_plans_generations_in_blocks(snakemake: Any, tmp_path: Path) -> None:
    demo = ("--configfile", "workflows/config/demo_spi.yaml", "--dry-run")
    done = snakemake.run(*demo, "--config", f"results={tmp_path}")
    assert done.returncode == 0, done.stdout
    jobs = planned(done.stdout)
    assert set(jobs) == STEPS
    assert jobs["spi_generations"] == 2  # of twenty generations each, up to 60 at most; the end is a job of its own
    assert jobs["spi_reconstruct"] == 1
    assert "--until 40" in done.stdout


@pytest.mark.slow
def test_a_small_particle_goes_through_all_rules(snakemake: Any, tmp_path: Path) -> None:
    config = {
        "dataset": "tiny",
        "results": str(tmp_path / "results"),
        "simulate_spi": {
            "structures": [str(STRUCTURE)],
            "n_shots": 80,
            "detector": {"type": "square", "size_px": 20},
            "pulse": {"focus_radius_um": 0.01},
        },
        "spi_hits": {"min_photons": 100},
        "spi_reconstruct": {
            "diameter_angstrom": 44.0,
            "d_min_angstrom": 12.0,
            "halves": False,
            "block": 2,
            "max_generations": 4,
            "marching": {"d_start_angstrom": 12.0, "starts": 1},
            "matching": {"references": 200},
            "phasing": {"iterations": 20, "starts": 2},
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(config))
    done = snakemake.run("--directory", tmp_path, "--configfile", path, "--cores", "1")
    assert done.returncode == 0, done.stdout
    trial = tmp_path / "results" / "tiny" / "000"
    assert (trial / "report" / "report.html").is_file()
    assert len(list((trial / "spi_reconstruct" / "generations").glob("*.json"))) == 4
    summary = json.loads((trial / "spi_reconstruct" / "manifest.json").read_text())["summary"]
    assert summary["n_generations"] == 4
    assert summary["finished"]
    again = snakemake.run("--directory", tmp_path, "--configfile", path, "--cores", "1")
    assert "Nothing to be done" in again.stdout
