"""The base of every configuration model, and its loading with errors that name the nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from exafel.errors import ConfigError


class Model(BaseModel):
    """Immutable model that refuses unknown keys; field descriptions are the parameter documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration: {error.strerror}", where=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = " ".join(str(error).split())
        raise ConfigError(f"not valid YAML: {first}", where=path) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError("the configuration must be a mapping of keys to values", where=path)
    return data


def validate(model: type[ModelT], data: Mapping[str, Any], *, where: str | Path | None = None) -> ModelT:
    """Build a model from plain data.

    Raises
    ------
    ConfigError
        With one clause for each fault: its key, what is wrong and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = [_describe(model, dict(item)) for item in error.errors()]
        raise ConfigError("; ".join(faults), where=where) from error


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the model that `path` leads to; all variants' names where a field is a union."""
    models = [model]
    for part in path:
        if isinstance(part, int):
            continue
        found: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(part)
            if field is not None:
                found.extend(models_in(field.annotation))
            elif getattr(candidate, "__name__", "") == part:
                found.append(candidate)
        models = found or models  # a union's discriminator value is part of pydantic's path, not of the user's
    return sorted({name for candidate in models for name in candidate.model_fields})


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation mentions: one for a section, several for a union of variants, none for a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in models_in(argument)]


def _describe(model: type[BaseModel], item: dict[str, Any]) -> str:
    path = tuple(item["loc"])
    key = ".".join(str(part) for part in path)
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), known_keys(model, path[:-1]), n=1, cutoff=0.5)
        return f"unknown key '{key}'" + (f", did you mean '{near[0]}'?" if near else "")
    if item["type"] == "missing":
        return f"'{key}' is required"
    message = str(item["msg"]).removeprefix("Value error, ")
    shown = repr(item.get("input"))
    return f"'{key}': {message[:1].lower()}{message[1:]} (got {shown if len(shown) <= 60 else shown[:57] + '...'})"
