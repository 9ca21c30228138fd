"""What is generated from a facility: Snakemake's profile, pilots, a batch script, a Globus Compute endpoint."""

from __future__ import annotations

import difflib
from pathlib import Path

import yaml

from exafel.facility.endpoint import endpoint_schema, endpoint_template
from exafel.facility.environments import TarballEnvironment
from exafel.facility.geometry import geometry
from exafel.facility.site import Site, SlurmScheduler, StepShape, TaskClass
from exafel.io.files import atomic_write

PROFILE, PILOTS, BATCH = "profile.yaml", "pilots.yaml", "batch.sh"
ENDPOINT, ENDPOINT_SCHEMA = "user_config_template.yaml.j2", "user_config_schema.json"


def note(site: Site) -> str:
    """The line that says where a generated file comes from."""
    return f"Generated from facility.yaml by `exafel facility render {site.facility} --fix`; edits here are lost."


def generated_files(site: Site) -> dict[str, str]:
    """Text of every generated file by its name in the facility's folder."""
    files = {PROFILE: profile_text(site)}
    if isinstance(site.scheduler, SlurmScheduler):
        files[BATCH] = batch_text(site, site.scheduler)
        files[ENDPOINT] = endpoint_template(site, site.scheduler, note(site))
        files[ENDPOINT_SCHEMA] = endpoint_schema(site, site.scheduler, note(site))
        if site.pilots:
            files[PILOTS] = pilots_text(site, site.scheduler)
    return files


def out_of_step(folder: Path, site: Site, *, fix: bool = False) -> str:
    """Compare the files in a facility's folder with what they should be.

    Returns
    -------
    str
        A unified diff of what differs; empty where nothing does, or where `fix` has written it.
    """
    differences: list[str] = []
    for name, text in generated_files(site).items():
        path = folder / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old == text:
            continue
        if fix:
            with atomic_write(path) as stream:
                stream.write(text.encode())
        else:
            shown = f"{folder.name}/{name}"
            differences += difflib.unified_diff(
                old.splitlines(True), text.splitlines(True), shown, f"{shown} (facility.yaml)"
            )
    return "".join(differences)


def profile_text(site: Site) -> str:
    """Snakemake's profile. Its relative paths are relative to the profile's folder."""
    lines = [
        f"# {site.title}. {note(site)}",
        "# Needs Snakemake 9.19 or newer.",
        "snakefile: ../../workflows/Snakefile",
    ]
    scheduler = site.scheduler
    if isinstance(scheduler, SlurmScheduler):
        lines += [f"executor: {scheduler.executor}"]
        if scheduler.executor == "parsl":
            lines += ["# Rules run inside pilots, whose shapes are in this file.", f"parsl-pilots: {PILOTS}"]
        else:
            lines += ["# The first question to Slurm about a job, and those after it, so many seconds apart."]
            lines += [f"slurm-init-seconds-before-status-checks: {scheduler.status_seconds}"]
            lines += [f"seconds-between-status-checks: {scheduler.status_seconds}"]
            lines += [f"slurm-requeue: {str(scheduler.requeue).lower()}"]
        lines += [f"jobs: {scheduler.max_jobs}"]
        lines += ["# Other nodes' files appear here late.", "latency-wait: 60"]
        lines += ["# A job that was preempted or ran out of time goes on from its finished shots.", "retries: 2"]
    else:
        lines += ["# Steps run with as many ranks as there are cores.", "cores: all"]
    lines += [
        "# After a kill, run again: a step that was cut short goes on from its finished shots.",
        "rerun-incomplete: true",
        "# Snakemake's lock would outlive a kill. Steps lock their own folders with a lock that does not.",
        "nolock: true",
        "# A step's one line of error, from its log.",
        "show-failed-logs: true",
        "printshellcmds: true",
    ]
    if isinstance(scheduler, SlurmScheduler):
        resources = {name: _resources(site, scheduler, name, step) for name, step in site.steps.items()}
        lines += ["# Each step's job, in Slurm's words; `mpi` is what its command is started by.", "set-resources:"]
        lines += [f"  {line}" for line in yaml.safe_dump(resources, sort_keys=False, width=1000).splitlines()]
    return "\n".join(lines) + "\n"


def _resources(site: Site, scheduler: SlurmScheduler, name: str, step: StepShape) -> dict[str, str | int]:
    shape = geometry(site, name)
    found: dict[str, str | int] = {"mpi": f"exafel launch --facility {site.facility} --step {name} --"}
    found |= {"nodes": shape.nodes, "runtime": step.runtime_min, "mem_mb": round(shape.memory_gb_per_node * 1000)}
    if scheduler.executor == "parsl":
        return {**found, "pilot": step.task_class}
    task_class = scheduler.classes[step.task_class]
    words = {"slurm_account": task_class.account, "slurm_partition": task_class.partition}
    words |= {"qos": task_class.qos, "constraint": task_class.constraint, "reservation": task_class.reservation}
    found |= {"tasks_per_node": shape.ranks_per_node, "cpus_per_task": shape.cpus_per_rank}
    if shape.gpus_per_node:
        found["gres"] = f"gpu:{shape.gpus_per_node}"
    return {**found, **{key: value for key, value in words.items() if value is not None}}


def sbatch_options(task_class: TaskClass) -> list[str]:
    """Options of sbatch that a class of task needs."""
    named = {
        "account": task_class.account,
        "partition": task_class.partition,
        "qos": task_class.qos,
        "constraint": task_class.constraint,
        "reservation": task_class.reservation,
    }
    return [f"--{key}={value}" for key, value in named.items() if value is not None]


def deploy_command(site: Site) -> str | None:
    """Shell line that brings the environment to the nodes of a job; None where there is nothing to bring."""
    if isinstance(site.environments[site.environment], TarballEnvironment):
        return f'deployed=$(exafel env deploy --facility {site.facility} --shell) && eval "$deployed" || exit 1'
    return None


def pilots_text(site: Site, scheduler: SlurmScheduler) -> str:
    """Shapes of the pilots, for the executor plugin and for other programs of Parsl."""
    rows = []
    for name, pilot in site.pilots.items():
        task_class = scheduler.classes[name]
        rows.append(
            {
                "label": name,
                "nodes": pilot.nodes,
                "gpus_per_node": site.nodes[task_class.nodes].gpus if _uses_gpus(site, name) else 0,
                "max_blocks": pilot.max_blocks,
                "walltime_min": pilot.walltime_min,
                "drain_min": pilot.drain_min,
                "workers": pilot.workers,
                "status_seconds": scheduler.status_seconds,
                "sbatch_options": sbatch_options(task_class),
                "worker_init": [f"umask {site.umask}", *filter(None, [deploy_command(site)])],
            }
        )
    return f"# {note(site)}\n{yaml.safe_dump(rows, sort_keys=False, width=1000)}"


def _uses_gpus(site: Site, task_class: str) -> bool:
    return any(step.ranks_per_gpu for step in site.steps.values() if step.task_class == task_class)


def batch_text(site: Site, scheduler: SlurmScheduler) -> str:
    """A batch script that runs the whole chain inside one allocation: to read, and to start from."""
    name = next(iter(site.pilots), next(iter(scheduler.classes)))
    pilot = site.pilots.get(name)
    nodes = pilot.nodes if pilot else max(geometry(site, step).nodes for step in site.steps)
    minutes = pilot.walltime_min if pilot else sum(step.runtime_min for step in site.steps.values())
    lines = ["#!/bin/bash", f"# {note(site)}", "# The chain in one job: sbatch profiles/" + f"{site.facility}/{BATCH}"]
    lines += ["#     --configfile workflows/config/demo.yaml", "#SBATCH --job-name=exafel"]
    lines += [f"#SBATCH {option}" for option in sbatch_options(scheduler.classes[name])]
    lines += [f"#SBATCH --nodes={nodes}", f"#SBATCH --time={minutes}", "#SBATCH --exclusive"]
    lines += ["# SIGTERM five minutes before the end: steps leave what they have finished, and the next job goes on."]
    lines += ["#SBATCH --signal=TERM@300", "set -euo pipefail", f"umask {site.umask}"]
    deploy = deploy_command(site)
    lines += [deploy] if deploy else []
    lines += [f'snakemake --profile profiles/{site.facility} --executor local --cores all "$@"']
    return "\n".join(lines) + "\n"
