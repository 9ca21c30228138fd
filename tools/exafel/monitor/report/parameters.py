"""Parameters of a step beside their defaults and their meaning, out of the configuration's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from exafel.config.base import models_in
from exafel.config.workflow import WorkflowConfig


@dataclass(frozen=True)
class Parameter:
    """One parameter of a step as it was used.

    Parameters
    ----------
    key
        Dotted key below the step's section.
    default
        Its default; None where it has none.
    changed
        Whether the value is not the default.
    """

    key: str
    value: Any
    default: Any
    changed: bool
    description: str


def step_parameters(step: str, config: Mapping[str, Any]) -> list[Parameter]:
    """Every parameter of a step's resolved configuration; of an unknown step, without defaults and descriptions."""
    section = WorkflowConfig.model_fields.get(step)
    models = [] if section is None else models_in(section.annotation)
    return list(_walk(models, config, ""))


def _walk(models: list[type[BaseModel]], values: Mapping[str, Any], prefix: str) -> Iterator[Parameter]:
    model = _variant(models, values)
    for name, value in values.items():
        field = None if model is None else model.model_fields.get(name)
        inner = [] if field is None else models_in(field.annotation)
        if isinstance(value, Mapping) and (inner or field is None):
            yield from _walk(inner, value, f"{prefix}{name}.")
            continue
        default = None if field is None else field.get_default(call_default_factory=True)
        default = None if default is PydanticUndefined else _as_json(default)
        known = field is not None
        description = (field.description or "") if field is not None else ""
        yield Parameter(prefix + name, value, default, known and value != default, description)


def _variant(models: list[type[BaseModel]], values: Mapping[str, Any]) -> type[BaseModel] | None:
    """Find the model that values were made by: among the variants of a union, the one whose literals agree."""
    fitting = [model for model in models if set(values) <= set(model.model_fields)]
    for model in fitting:
        literals = {
            name: field.default for name, field in model.model_fields.items() if name in ("type", "model", "method")
        }
        if len(fitting) == 1 or all(values.get(name) == default for name, default in literals.items()):
            return model
    return fitting[0] if fitting else None


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple | set | frozenset) else value
