"""How many ranks a step has, and where: from images, nodes and what a node holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from exafel.errors import ConfigError
from exafel.facility.site import NodeKind, Partition, Site, SlurmScheduler, StepShape, TaskClass

_GIB = 1024**3


@dataclass(frozen=True)
class Geometry:
    """Layout of one step.

    Parameters
    ----------
    nodes, ranks, ranks_per_node
        The last node may hold fewer.
    cpus_per_rank
        Physical cores.
    gpus_per_node
        0 for a step without GPUs.
    memory_gb_per_node
        Of the fullest node.
    """

    nodes: int
    ranks: int
    ranks_per_node: int
    cpus_per_rank: int
    gpus_per_node: int
    memory_gb_per_node: float


def find_step(site: Site, step: str) -> StepShape:
    """Return the layout of a step.

    Raises
    ------
    ConfigError
        The facility has none for it.
    """
    if step not in site.steps:
        raise ConfigError(f"no layout for step '{step}', but for {', '.join(site.steps)}", where=site.facility)
    return site.steps[step]


def kind_of(site: Site, step: StepShape) -> NodeKind:
    """Kind of nodes that a step runs on."""
    if isinstance(site.scheduler, SlurmScheduler):
        return site.nodes[site.scheduler.classes[step.task_class].nodes]
    return next(iter(site.nodes.values()))


def most_nodes(site: Site, step: StepShape) -> int:
    """Most nodes that a job of this step may have."""
    kind = kind_of(site, step)
    if not isinstance(site.scheduler, SlurmScheduler):
        return kind.count
    task_class = site.scheduler.classes[step.task_class]
    limits = [kind.count, partition_of(site.scheduler, task_class).max_nodes]
    if task_class.qos is not None:
        limits.append(site.scheduler.qos[task_class.qos].max_nodes)
    return min(limit for limit in limits if limit is not None)


def partition_of(scheduler: SlurmScheduler, task_class: TaskClass) -> Partition:
    """Partition that jobs of a class run in: the one it names, else the first that has its kind of nodes."""
    named = task_class.partition
    for item in scheduler.partitions:
        if item.name == named or (named is None and task_class.nodes in item.nodes):
            return item
    return next(item for item in scheduler.partitions if item.name == scheduler.default_partition)


def longest_hours(scheduler: SlurmScheduler, task_class: TaskClass, nodes: int) -> float:
    """Longest time limit, hours, of a job of `nodes` nodes."""
    partition = partition_of(scheduler, task_class)
    limits = [partition.max_hours]
    limits += [item.max_hours for item in partition.bins if nodes <= item.max_nodes][:1]
    qos = None if task_class.qos is None else scheduler.qos[task_class.qos].max_hours
    return min(limits) if qos is None else min(*limits, qos)


def ranks_that_fit(kind: NodeKind, step: StepShape) -> int:
    """Ranks of a step on one node: as asked for, or as many as its cores, GPUs and memory hold.

    Raises
    ------
    ConfigError
        The node cannot hold as many as asked for, or not even one.
    """
    cores = (kind.cores or os.cpu_count() or 1) - kind.reserved_cores
    memory_gb = kind.memory_gb or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    room = min(cores // step.cpus_per_rank, int(memory_gb / step.memory_gb_per_rank))
    wanted = step.ranks_per_node
    if step.ranks_per_gpu is not None and kind.gpus:
        wanted = step.ranks_per_gpu * kind.gpus
    if step.single:
        wanted = 1
    if room < (wanted or 1):
        raise ConfigError(
            f"{wanted or 1} ranks of {step.cpus_per_rank} cores and {step.memory_gb_per_rank:g} GB do not fit on a "
            f"node of {cores} cores and {memory_gb:g} GB",
            hint="lower ranks, cpus_per_rank or memory_gb_per_rank of the step",
        )
    return wanted or room


def geometry(
    site: Site,
    step_name: str,
    *,
    images: int | None = None,
    nodes: int | None = None,
    ranks: int | None = None,
    at_most_a_node: int | None = None,
) -> Geometry:
    """Lay a step out.

    Ranks are asked for, or follow from the images, or fill the nodes; nodes follow from the ranks, within the
    facility's limits. Ranks are spread evenly over the nodes.

    Parameters
    ----------
    site
        The facility.
    step_name
        The step.
    images
        Number of images, where it is known.
    nodes
        Nodes to use, or the most of them where images or ranks are given. None: as many as needed, or the step's own.
    ranks
        Ranks to start.
    at_most_a_node
        Fewer ranks a node than the step's layout has, for machines that only play a facility's.

    Raises
    ------
    ConfigError
        The facility has no layout for the step, or the ranks do not fit within its limits.
    """
    step = find_step(site, step_name)
    kind = kind_of(site, step)
    limit = min(most_nodes(site, step), nodes or most_nodes(site, step))
    fit = min(ranks_that_fit(kind, step), at_most_a_node or ranks_that_fit(kind, step))
    if nodes is not None and nodes > most_nodes(site, step):
        raise ConfigError(f"{nodes} nodes are more than the {limit} of a job of '{step_name}'", where=site.facility)
    if step.single:
        ranks = 1
    elif ranks is None and images is not None and step.images_per_rank is not None:
        ranks = min(max(1, -(-images // step.images_per_rank)), limit * fit)
    elif ranks is None:
        ranks = min(nodes or step.nodes, limit) * fit
    if ranks > limit * fit:
        raise ConfigError(
            f"{ranks} ranks of '{step_name}' do not fit on {limit} nodes of {fit} ranks each", where=site.facility
        )
    used = -(-ranks // fit)
    a_node = -(-ranks // used)
    gpus = kind.gpus if step.ranks_per_gpu is not None else 0
    memory_gb = a_node * step.memory_gb_per_rank
    return Geometry(-(-ranks // a_node), ranks, a_node, step.cpus_per_rank, gpus, memory_gb)
