"""A Globus Compute endpoint for a facility: a template that a user's choices fill, and the schema that bounds them."""

from __future__ import annotations

import json

from exafel.facility.geometry import partition_of
from exafel.facility.site import Site, SlurmScheduler, TaskClass


def endpoint_class(site: Site, scheduler: SlurmScheduler) -> tuple[str, TaskClass]:
    """Class of task that remote work runs as: that of the first pilot, else the first."""
    name = next(iter(site.pilots), next(iter(scheduler.classes)))
    return name, scheduler.classes[name]


def endpoint_template(site: Site, scheduler: SlurmScheduler, note: str) -> str:
    """Jinja template of the endpoint's configuration; every choice has a default."""
    _, task_class = endpoint_class(site, scheduler)
    options = []
    if task_class.reservation is not None:
        options.append(f"#SBATCH --reservation={task_class.reservation}")
    lines = [
        f"{{# {note} #}}",
        f'display_name: "ExaFEL at {site.title}"',
        "engine:",
        "  type: GlobusComputeEngine",
        "  max_workers_per_node: 1",
        "  provider:",
        "    type: SlurmProvider",
        f"    account: \"{{{{ account | default('{task_class.account or ''}') }}}}\"",
    ]
    for key in ("partition", "constraint"):
        value = getattr(task_class, key)
        lines += [f"    {key}: {value}"] if value is not None else []
    if task_class.qos is not None:
        lines.append(f"    qos: {{{{ qos | default('{task_class.qos}') }}}}")
    lines += [
        "    nodes_per_block: {{ nodes | default(1) }}",
        "    walltime: \"{{ walltime | default('00:30:00') }}\"",
        "    init_blocks: 0",
        "    min_blocks: 0",
        "    max_blocks: 1",
        f"    scheduler_options: {json.dumps(chr(10).join(options))}",
        f'    worker_init: "umask {site.umask}"',
        "    launcher:",
        "      type: SimpleLauncher",
        "idle_heartbeats_soft: 10",
        "idle_heartbeats_hard: 5760",
    ]
    return "\n".join(lines) + "\n"


def endpoint_schema(site: Site, scheduler: SlurmScheduler, note: str) -> str:
    """JSON schema of what a user may choose: nothing else is let through."""
    name, task_class = endpoint_class(site, scheduler)
    usable = [key for key in scheduler.qos if any(item.qos == key for item in scheduler.classes.values())]
    kind = site.nodes[task_class.nodes]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"{note} Jobs of class '{name}'.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "account": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
            "qos": {"enum": usable},
            "nodes": {
                "type": "integer",
                "minimum": 1,
                "maximum": partition_of(scheduler, task_class).max_nodes or kind.count,
            },
            "walltime": {"type": "string", "pattern": "^[0-4][0-9]:[0-5][0-9]:[0-5][0-9]$"},
        },
    }
    return json.dumps(schema, indent=2) + "\n"
