"""Parameters of a step beside their defaults and their meaning, out of the configuration's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

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
    return list(_walk(models, config, _defaults_of(models), ""))


def _defaults_of(models: list[type[BaseModel]]) -> dict[str, Any]:
    """Defaults of a step's section; empty where it cannot be made without the user's own values."""
    try:
        return models[0]().model_dump(mode="json") if models else {}
    except ValidationError:
        return {}


def _walk(
    models: list[type[BaseModel]], values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str
) -> Iterator[Parameter]:
    """Go through a section; a variant of a union that is not the default one is compared with its own defaults."""
    model = _variant(models, values)
    for name, value in values.items():
        field = None if model is None else model.model_fields.get(name)
        inner = [] if field is None else models_in(field.annotation)
        default = defaults[name] if name in defaults else None if field is None else _own_default(field)
        if isinstance(value, Mapping) and (inner or field is None):
            yield from _walk(inner, value, default if isinstance(default, Mapping) else {}, f"{prefix}{name}.")
        else:
            description = "" if field is None else field.description or ""
            yield Parameter(prefix + name, value, default, field is not None and value != default, description)


def _own_default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else to_jsonable_python(default)


def _variant(models: list[type[BaseModel]], values: Mapping[str, Any]) -> type[BaseModel] | None:
    """Find the model that values were made by: among the variants of a union, the one whose literals agree."""
    fitting = [model for model in models if set(values) <= set(model.model_fields)]
    for model in fitting:
        annotations = {name: field.annotation for name, field in model.model_fields.items()}
        literals = {name: get_args(kind) for name, kind in annotations.items() if get_origin(kind) is Literal}
        if all(values.get(name) in allowed for name, allowed in literals.items()):
            return model
    return None
