"""Section: what ran, with which program, on what, for how long, and with which parameters."""

from __future__ import annotations

from typing import Any

from exafel.io.manifest import Manifest
from exafel.monitor.report.blocks import Section, Table
from exafel.monitor.report.parameters import Parameter, step_parameters
from exafel.monitor.report.trial import StepFolder, Trial

_MOST_INPUTS = 20


def provenance_section(trial: Trial) -> Section:
    """Steps with versions, inputs and times."""
    section = Section("steps", "What ran")
    rows = tuple(_row(step) for step in trial.steps.values())
    head = ("step", "state", "engine", "software", "ranks", "wall time (s)", "CPU time (s)", "finished (UTC)", "inputs")
    section.add(Table("Steps in the order in which data walk through them.", head, rows))
    for step in trial.steps.values():
        if step.remark:
            joint = ", but" if step.state == "finished" else ":"
            section.note(f"The step {step.name} is {step.state}{joint} {step.remark}.", warning=True)
    section.numbers = {name: _numbers(step) for name, step in trial.steps.items()}
    return section


def _row(step: StepFolder) -> tuple[Any, ...]:
    manifest = step.manifest
    if manifest is None:
        return (step.name, step.state, "", "", "", "", "", "", "")
    ranks = manifest.timings_s.get("ranks", [])
    return (
        step.name,
        step.state,
        f"{manifest.engine} {manifest.engine_version}",
        " ".join(part for part in (manifest.software_version, manifest.git_describe) if part),
        len(ranks),
        round(max((rank.get("wall_s", 0.0) for rank in ranks), default=0.0), 2),
        round(sum(rank.get("cpu_s", 0.0) for rank in ranks), 2),
        manifest.finished.removesuffix("+00:00").replace("T", " "),
        _inputs(manifest),
    )


def _inputs(manifest: Manifest) -> str:
    names = [item.path.rstrip("/").rsplit("/", 1)[-1] for item in manifest.inputs]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _numbers(step: StepFolder) -> dict[str, Any]:
    manifest = step.manifest
    if manifest is None:
        return {"state": step.state, "remark": step.remark}
    return {
        "state": step.state,
        "remark": step.remark,
        "engine": manifest.engine,
        "engine_version": manifest.engine_version,
        "software_version": manifest.software_version,
        "git_describe": manifest.git_describe,
        "finished": manifest.finished,
        "host": manifest.host,
        "fingerprint": manifest.fingerprint,
        "n_inputs": len(manifest.inputs),
        "inputs": [item.path for item in manifest.inputs[:_MOST_INPUTS]],
        "n_containers": len(manifest.containers),
        "size_bytes": sum(item.size_bytes for item in manifest.containers),
        "config": manifest.config,
    }


def parameters_section(trial: Trial) -> Section:
    """Parameters of every step: those that are not the default in the open, all of them behind a fold."""
    section = Section("parameters", "Parameters")
    for step in trial.steps.values():
        if step.manifest is None:
            continue
        parameters = step_parameters(step.name, step.manifest.config)
        changed = [item for item in parameters if item.changed]
        if changed:
            caption = f"{step.name}: parameters that are not the default."
            rows = tuple((item.key, _value(item.value), _value(item.default), item.description) for item in changed)
            section.add(Table(caption, ("parameter", "value", "default", "meaning"), rows))
        section.add(_all_parameters(step.name, parameters))
        section.numbers[step.name] = {"changed": {item.key: item.value for item in changed}}
    if not section.blocks:
        section.note("No step has finished, so there is no record of parameters yet.")
    return section


def _all_parameters(name: str, parameters: list[Parameter]) -> Table:
    marked = frozenset(number for number, item in enumerate(parameters) if item.changed)
    rows = tuple((item.key, _value(item.value), item.description) for item in parameters)
    n_changed = len(marked) or "none"
    caption = f"{name}: all {len(parameters)} parameters, {n_changed} changed from the default"
    return Table(caption, ("parameter", "value", "meaning"), rows, marked=marked, folded=True)


def _value(value: Any) -> Any:
    """Show a parameter as it would be written in the configuration, cut where it is a long list."""
    if isinstance(value, list | tuple):
        shown = ", ".join(str(_value(item)) for item in value[:12])
        return f"{shown}, … ({len(value)})" if len(value) > 12 else shown
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
