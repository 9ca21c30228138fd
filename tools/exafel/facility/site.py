"""The model of a site: ``profiles/<facility>/facility.yaml`` is an instance of it, and all else is made from that.

Slurm's own words are used for Slurm's things. Nothing in the package knows the name of a facility.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from exafel.config.base import Model
from exafel.facility.environments import Environment, VenvEnvironment

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]


class NodeKind(Model):
    """One kind of node: what a job can use of it."""

    count: int = Field(1, ge=1, description="Nodes of this kind.")
    sockets: int = Field(1, ge=1, description="Sockets a node.")
    cores: int | None = Field(None, ge=1, description="Physical cores a node. Empty: as this machine has.")
    threads_per_core: int = Field(1, ge=1, description="Hardware threads a core.")
    reserved_cores: int = Field(0, ge=0, description="Cores that the system keeps for itself.")
    memory_gb: float | None = Field(None, gt=0, description="Memory that jobs can use, GB. Empty: as this machine has.")
    gpus: int = Field(0, ge=0, description="GPUs a node, as the scheduler counts them (a GCD counts as one).")
    gpu_type: str = Field("", description="Type of GPU in the scheduler's words; empty where it has no types.")
    features: tuple[Name, ...] = Field((), description="Features that --constraint chooses by.")


class WalltimeBin(Model):
    """Longest time limit for jobs of up to so many nodes."""

    max_nodes: int = Field(ge=1, description="Jobs of at most so many nodes.")
    max_hours: float = Field(gt=0, description="Longest time limit, hours.")


class Partition(Model):
    """A partition of the scheduler."""

    name: Name = Field(description="Its name.")
    nodes: tuple[str, ...] = Field(description="Kinds of nodes in it.")
    max_hours: float = Field(gt=0, description="Longest time limit, hours.")
    max_nodes: int | None = Field(None, ge=1, description="Most nodes a job.")
    exclusive: bool = Field(False, description="Whole nodes only.")
    bins: tuple[WalltimeBin, ...] = Field((), description="Shorter limits for smaller jobs, by growing size.")


class Qos(Model):
    """A quality of service."""

    priority: int = Field(0, ge=0, description="Higher is sooner; relative.")
    max_hours: float | None = Field(None, gt=0, description="Longest time limit, hours.")
    max_nodes: int | None = Field(None, ge=1, description="Most nodes a job.")
    max_submitted: int | None = Field(None, ge=1, description="Most jobs of a user in the queue.")
    preempts: tuple[Name, ...] = Field((), description="QOS whose jobs it may end.")
    grace_s: int = Field(0, ge=0, description="Seconds between SIGTERM and SIGKILL for a preempted job of this QOS.")


class TaskClass(Model):
    """How jobs of one class are submitted."""

    nodes: str = Field(description="Kind of nodes that it runs on.")
    account: Name | None = Field(None, description="--account: your project. Empty: your default one.")
    partition: Name | None = Field(None, description="--partition. Empty: the site chooses by QOS and constraint.")
    qos: Name | None = Field(None, description="--qos.")
    constraint: Name | None = Field(None, description="--constraint.")
    reservation: Name | None = Field(None, description="--reservation.")


class NoScheduler(Model):
    """One machine, no scheduler."""

    type: Literal["none"] = "none"


class SlurmScheduler(Model):
    """Slurm."""

    type: Literal["slurm"] = "slurm"
    default_partition: Name = Field(description="Partition of a job that names none.")
    partitions: tuple[Partition, ...] = Field(description="Partitions.")
    qos: dict[Name, Qos] = Field(description="Qualities of service by name.")
    classes: dict[Name, TaskClass] = Field(description="How each class of task is submitted.")
    executor: Literal["parsl", "slurm"] = Field("slurm", description="Snakemake's: pilots, or a job a rule.")
    max_jobs: int = Field(100, ge=1, description="Most rules at once.")
    requeue: bool = Field(False, description="Let Slurm queue a preempted job of a rule again.")
    status_seconds: int = Field(40, ge=2, description="Seconds between questions to Slurm about jobs.")

    @model_validator(mode="after")
    def _names_are_known(self) -> SlurmScheduler:
        partitions = {item.name for item in self.partitions}
        for name in (self.default_partition, *(item.partition for item in self.classes.values())):
            if name is not None and name not in partitions:
                raise ValueError(f"no partition '{name}' among {', '.join(sorted(partitions))}")
        asked = [item.qos for item in self.classes.values()]
        for name in (*asked, *(other for item in self.qos.values() for other in item.preempts)):
            if name is not None and name not in self.qos:
                raise ValueError(f"no QOS '{name}' among {', '.join(sorted(self.qos))}")
        return self


class Pilot(Model):
    """A pilot: one job of the scheduler in which many rules run."""

    nodes: int = Field(1, ge=1, description="Nodes a pilot.")
    max_blocks: int = Field(1, ge=1, description="Most pilots at once.")
    walltime_min: int = Field(120, ge=5, description="Time limit, minutes.")
    drain_min: int = Field(30, ge=1, description="No rule begins in the last so many minutes: as long as one may take.")
    workers: int = Field(8, ge=1, description="Rules at once in a pilot.")


class NoLauncher(Model):
    """Ranks are local processes."""

    type: Literal["none"] = "none"


class SrunLauncher(Model):
    """Ranks are started by srun."""

    type: Literal["srun"] = "srun"
    mpi: str | None = Field(None, description="--mpi. Empty: the site's default.")
    cpu_bind: str | None = Field("cores", description="--cpu-bind.")
    gpu_bind: str | None = Field(None, description="--gpu-bind for steps with GPUs.")
    device_variable: str | None = Field(
        None, description="Variable that names a rank's GPU, where srun binds none: CUDA_VISIBLE_DEVICES."
    )
    options: tuple[str, ...] = Field((), description="Other options of srun.")
    variables: dict[str, str] = Field({}, description="Environment variables of every rank.")


class StepShape(Model):
    """How one step is laid out on nodes."""

    task_class: str = Field("cpu", description="Class that its job is submitted as.")
    nodes: int = Field(1, ge=1, description="Nodes, where nothing else says how many.")
    ranks_per_node: int | None = Field(None, ge=1, description="Ranks a node. Empty: as cores, GPUs and memory allow.")
    ranks_per_gpu: int | None = Field(None, ge=1, description="Ranks a GPU, for steps that use GPUs.")
    cpus_per_rank: int = Field(1, ge=1, description="Physical cores a rank.")
    memory_gb_per_rank: float = Field(2.0, gt=0, description="Memory a rank, GB.")
    images_per_rank: int | None = Field(None, ge=1, description="Images a rank that give the best time. Empty: any.")
    single: bool = Field(False, description="One process, however many nodes there are.")
    runtime_min: int = Field(60, ge=1, description="Time limit, minutes.")


class FileSystems(Model):
    """Where data lie; the shell's variables are kept as they are."""

    scratch: str = Field("results", description="Large and fast, purged.")
    project: str | None = Field(None, description="Kept, shared by a project.")
    node_local: tuple[str, ...] = Field((), description="Disks of a node alone, best first.")


class Transfer(Model):
    """End points of data transfer."""

    globus_collection: str | None = Field(None, description="UUID of the Globus collection.")
    host: str | None = Field(None, description="Data transfer nodes.")


class Site(Model):
    """A facility, as the rest of the software sees it."""

    facility: Name = Field(description="Name; that of its folder.")
    title: str = Field(description="Name for people.")
    nodes: dict[Name, NodeKind] = Field(description="Kinds of nodes by name.")
    scheduler: Annotated[NoScheduler | SlurmScheduler, Field(discriminator="type")] = Field(
        default_factory=NoScheduler, description="What gives out nodes."
    )
    pilots: dict[Name, Pilot] = Field({}, description="Shape of the pilots of each class of task.")
    launcher: Annotated[NoLauncher | SrunLauncher, Field(discriminator="type")] = Field(
        default_factory=NoLauncher, description="What starts ranks."
    )
    environment: Name = Field("venv", description="Environment that is used unless another is asked for.")
    environments: dict[Name, Environment] = Field(
        {"venv": VenvEnvironment()}, description="How the software reaches a node, by name."
    )
    steps: dict[Name, StepShape] = Field(description="Layout of each step.")
    file_systems: FileSystems = Field(default_factory=FileSystems, description="Where data lie.")
    transfer: Transfer = Field(default_factory=Transfer, description="How data come and go.")
    database_url: str | None = Field(None, description="Data base of runs, as an SQLAlchemy URL. Empty: none.")
    umask: str = Field("022", pattern=r"^0[0-7]{2}$", description="umask of every job, octal.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Site:
        if self.environment not in self.environments:
            raise ValueError(f"no environment '{self.environment}' among {', '.join(self.environments)}")
        if isinstance(self.scheduler, NoScheduler):
            return self
        classes = self.scheduler.classes
        for name, item in classes.items():
            if item.nodes not in self.nodes:
                raise ValueError(f"class '{name}': no kind of nodes '{item.nodes}'")
        used = {f"step '{name}'": step.task_class for name, step in self.steps.items()}
        used.update({f"pilot '{name}'": name for name in self.pilots})
        for who, name in used.items():
            if name not in classes:
                raise ValueError(f"{who}: no class '{name}' among {', '.join(classes)}")
        if self.scheduler.executor == "parsl":
            for who, name in used.items():
                if name not in self.pilots:
                    raise ValueError(f"{who}: executor 'parsl' needs a pilot '{name}'")
        return self
