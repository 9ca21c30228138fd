"""What can be wrong with a facility beyond its model: layouts that do not fit, time limits, files out of step."""

from __future__ import annotations

from pathlib import Path

from exafel.errors import ConfigError
from exafel.facility.geometry import geometry, longest_hours
from exafel.facility.render import generated_files
from exafel.facility.site import Site, SlurmScheduler


def check_site(site: Site, folder: Path) -> list[str]:
    """Faults of a facility, one clause each; none where all is well."""
    faults = []
    for name, step in site.steps.items():
        try:
            shape = geometry(site, name)
        except ConfigError as error:
            faults.append(f"step '{name}': {error.what}")
            continue
        if isinstance(site.scheduler, SlurmScheduler):
            longest = longest_hours(site.scheduler, site.scheduler.classes[step.task_class], shape.nodes)
            faults += _too_long(f"step '{name}'", step.runtime_min, longest, shape.nodes)
            pilot = site.pilots.get(step.task_class)
            if site.scheduler.executor == "parsl" and pilot is not None:
                if shape.nodes > pilot.nodes:
                    faults.append(f"step '{name}': {shape.nodes} nodes, but a pilot has {pilot.nodes}")
                if step.runtime_min > pilot.drain_min:
                    faults.append(f"step '{name}': {step.runtime_min} min, but pilots drain {pilot.drain_min} min")
    if isinstance(site.scheduler, SlurmScheduler):
        for name, pilot in site.pilots.items():
            longest = longest_hours(site.scheduler, site.scheduler.classes[name], pilot.nodes)
            faults += _too_long(f"pilot '{name}'", pilot.walltime_min, longest, pilot.nodes)
            if pilot.drain_min >= pilot.walltime_min:
                faults.append(f"pilot '{name}': drains {pilot.drain_min} min of its {pilot.walltime_min}")
    if any("do not fit" in fault for fault in faults):
        return faults  # what is generated has the layouts in it
    for name, text in generated_files(site).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            faults.append(f"{name} is not what facility.yaml says")
    return faults


def _too_long(what: str, minutes: int, longest_h: float, nodes: int) -> list[str]:
    if minutes <= 60 * longest_h:
        return []
    return [f"{what}: {minutes} min, but {nodes} nodes may have {60 * longest_h:g}"]
