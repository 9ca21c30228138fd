"""The base of every configuration model, and its loading with errors that name the nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from exafel.errors import ConfigError


class Model(BaseModel):
    """Immutable model that refuses unknown keys; field descriptions are the parameter documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


ModelT = TypeVar("ModelT", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML in which a key is given once: of a section written twice, the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, gives a key twice, or does not hold a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - it is a safe one
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
    _, models = _follow(model, path)
    return sorted({name for candidate in models for name in candidate.model_fields})


def _follow(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """Follow pydantic's path: the keys that the user wrote on it, and the models at its end.

    Behind a union's key pydantic names the variant, which the user has written elsewhere or not at all.
    """
    keys: list[str] = []
    models = [model]
    for part in path:
        variants = [item for item in models if _is_variant(item, part)] if len(models) > 1 else []
        if variants:
            models = variants
            continue
        keys.append(str(part))
        if isinstance(part, str):
            fields = [item.model_fields[part] for item in models if part in item.model_fields]
            models = [found for field in fields for found in models_in(field.annotation)]
    return keys, models


def _is_variant(model: type[BaseModel], name: str | int) -> bool:
    literals = (field.annotation for field in model.model_fields.values() if get_origin(field.annotation) is Literal)
    return any(name in get_args(literal) for literal in literals)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation mentions: one for a section, several for a union of variants, none for a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in models_in(argument)]


def _describe(model: type[BaseModel], item: dict[str, Any]) -> str:
    path = tuple(item["loc"])
    keys, variants = _follow(model, path)
    key = ".".join(keys)
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), known_keys(model, path[:-1]), n=1, cutoff=0.5)
        return f"unknown key '{key}'" + (f", did you mean '{near[0]}'?" if near else "")
    if item["type"] == "missing":
        return f"'{key}' is required"
    if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return _describe_tag(key, variants, item["ctx"])
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"'{key}': {message[:1].lower()}{message[1:]} (got {_shown(item.get('input'))})"


def _describe_tag(key: str, variants: list[type[BaseModel]], context: Mapping[str, str]) -> str:
    """Say which variants a union has, where the key that chooses one is missing or wrong."""
    chooser = context["discriminator"].strip("'")
    names = [repr(name) for variant in variants for name in get_args(variant.model_fields[chooser].annotation)]
    allowed = " or ".join([", ".join(names[:-1]), names[-1]])
    if "tag" not in context:
        return f"'{key}.{chooser}' is required: {allowed}"
    return f"'{key}.{chooser}': should be {allowed} (got {_shown(context['tag'])})"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
