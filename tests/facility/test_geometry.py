"""Layouts against the production table of ExaFEL and against sums by hand, from one node to all of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exafel.config.base import validate
from exafel.errors import ConfigError
from exafel.facility.geometry import geometry, longest_hours
from exafel.facility.load import load_site
from exafel.facility.site import Site, SlurmScheduler

FRONTIER = load_site(Path(__file__).resolve().parents[2] / "profiles" / "frontier" / "facility.yaml")


@pytest.mark.parametrize(
    ("step", "images", "nodes", "ranks", "a_node", "cpus"),
    [  # the layouts of the production runs, 500,000 images; stage 2 and SPI as the paper has them
        ("simulate", 500_000, 256, 8192, 32, 1),
        ("stills", 500_000, 80, 4480, 56, 1),
        ("merge", 500_000, 96, 768, 8, 7),
        ("stage1", 500_000, 512, 8192, 16, 3),
        ("predict", 500_000, 512, 8192, 16, 3),
        ("stage2", 2**19, 256, 4096, 16, 3),
        ("spi_generations", 2**20, 512, 4096, 8, 7),
    ],
)
def test_the_production_layouts(
    frontier: Site, step: str, images: int, nodes: int, ranks: int, a_node: int, cpus: int
) -> None:
    shape = geometry(frontier, step, images=images)
    assert (shape.ranks_per_node, shape.cpus_per_rank) == (a_node, cpus)
    assert shape.ranks == pytest.approx(ranks, rel=0.01)
    assert shape.nodes == pytest.approx(nodes, rel=0.01)


@pytest.mark.parametrize("nodes", [1, 2, 4, 91, 256, 1024, 5120, 9000])
@pytest.mark.parametrize(
    "step", ["simulate", "stills", "merge", "stage1", "predict", "stage2", "spi_generations", "cells", "report"]
)
def test_nodes_are_filled_and_never_overfilled(frontier: Site, step: str, nodes: int) -> None:
    shape = geometry(frontier, step, nodes=nodes)
    assert shape.nodes == (1 if step in ("cells", "report") else nodes)
    assert shape.ranks == shape.nodes * shape.ranks_per_node
    assert shape.ranks_per_node * shape.cpus_per_rank <= 56, "eight cores are the system's"
    assert shape.memory_gb_per_node <= 512
    assert shape.gpus_per_node == (8 if step in ("stage1", "predict", "stage2", "spi_generations") else 0)
    assert not shape.gpus_per_node or shape.ranks_per_node % 8 == 0, "every GCD has as many ranks as the others"


@given(images=st.integers(1, 10**7), nodes=st.integers(1, 9000))
def test_images_are_spread_over_as_few_nodes_as_they_need(images: int, nodes: int) -> None:
    shape = geometry(FRONTIER, "stage2", images=images, nodes=nodes)
    assert 1 <= shape.nodes <= nodes
    assert (shape.nodes - 1) * shape.ranks_per_node < shape.ranks <= shape.nodes * shape.ranks_per_node
    if shape.ranks < nodes * 16:
        assert shape.ranks == -(-images // 128), "128 images a rank, unless the nodes are too few"


def test_ranks_are_spread_evenly(data: dict[str, Any]) -> None:
    site = validate(Site, data)
    shape = geometry(site, "stills", images=50)  # five ranks; four fit on a node
    assert (shape.ranks, shape.nodes, shape.ranks_per_node) == (5, 2, 3)
    assert shape.memory_gb_per_node == 6
    assert geometry(site, "stills", ranks=9).nodes == 3
    assert geometry(site, "stills", nodes=2, at_most_a_node=1).ranks == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_name": "stils"}, "no layout for step 'stils', but for stills, stage2, report"),
        ({"step_name": "stills", "nodes": 6}, "6 nodes are more than the 5 of a job of 'stills'"),
        ({"step_name": "stills", "ranks": 21}, "21 ranks of 'stills' do not fit on 5 nodes of 4 ranks each"),
    ],
)
def test_what_does_not_fit_is_one_line(data: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        geometry(validate(Site, data), **options)


@pytest.mark.parametrize(("nodes", "hours"), [(1, 2), (91, 2), (92, 6), (183, 6), (184, 12), (9000, 12)])
def test_the_time_limit_grows_with_the_job(frontier: Site, nodes: int, hours: float) -> None:
    assert isinstance(frontier.scheduler, SlurmScheduler)
    assert longest_hours(frontier.scheduler, frontier.scheduler.classes["cpu"], nodes) == hours


def test_the_qos_bounds_nodes_and_time(perlmutter: Site) -> None:
    scheduler = perlmutter.scheduler
    assert isinstance(scheduler, SlurmScheduler)
    debug = scheduler.classes["cpu"].model_copy(update={"qos": "debug"})
    changed = scheduler.model_copy(update={"classes": {**scheduler.classes, "cpu": debug}})
    site = perlmutter.model_copy(update={"scheduler": changed})
    assert geometry(site, "stills", images=10**7).nodes == 8
    assert longest_hours(changed, debug, 8) == 0.5
