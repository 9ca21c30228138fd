"""The facilities of the checkout, and a small invented one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exafel.facility.load import PROFILES_VARIABLE, load_site
from exafel.facility.site import Site

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


@pytest.fixture(autouse=True)
def _profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILES_VARIABLE, str(PROFILES))
    for name in ("EXAFEL_ENV", "EXAFEL_ENVIRONMENT", "EXAFEL_REHEARSAL_RANKS_PER_NODE", "SLURM_JOB_NUM_NODES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def frontier() -> Site:
    return load_site("frontier")


@pytest.fixture
def perlmutter() -> Site:
    return load_site("perlmutter")


@pytest.fixture
def data() -> dict[str, Any]:
    """A facility of six nodes with four cores and two GPUs each, one core kept by the system."""
    return {
        "facility": "small",
        "title": "A small cluster",
        "nodes": {"node": {"count": 6, "cores": 5, "reserved_cores": 1, "memory_gb": 16, "gpus": 2}},
        "scheduler": {
            "type": "slurm",
            "default_partition": "main",
            "partitions": [{"name": "main", "nodes": ["node"], "max_hours": 4, "max_nodes": 5}],
            "qos": {"normal": {"max_hours": 2}},
            "classes": {"cpu": {"nodes": "node", "qos": "normal", "account": "abc"}},
        },
        "launcher": {"type": "srun"},
        "steps": {
            "stills": {"nodes": 2, "images_per_rank": 10},
            "stage2": {"ranks_per_gpu": 1, "cpus_per_rank": 2, "memory_gb_per_rank": 8},
            "report": {"single": True},
        },
    }
