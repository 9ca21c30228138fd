"""The parameters of a model in plain words: what values they take, their defaults, their documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_origin

import yaml
from pydantic import BaseModel

from exafel.config.base import models_in

_NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "empty"}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


@dataclass(frozen=True)
class Parameter:
    """One field of a model.

    Parameters
    ----------
    name, description
        Its key and its documentation.
    kind
        The values it takes, in words.
    default
        Its default as plain data; None where it is required too.
    required, optional
        Whether it must be given; whether it may be left empty.
    models
        Models of the section that it is: one, or a variant each; none for a value.
    section
        The model that its default is of, or for an optional section would be of.
    """

    name: str
    description: str
    kind: str
    default: Any
    required: bool
    optional: bool
    models: tuple[type[BaseModel], ...]
    section: type[BaseModel] | None

    def variant_of(self, model: type[BaseModel]) -> str:
        """Name of one of several variants: what its discriminating key, a literal, must be; empty where it is alone."""
        if len(self.models) < 2:
            return ""
        fixed = (field.default for field in model.model_fields.values() if get_origin(field.annotation) is Literal)
        return str(next(fixed, model.__name__))


def parameters(model: type[BaseModel]) -> Iterator[Parameter]:
    """Yield every parameter of a model, in the model's order."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    for name, field in model.model_fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        models = tuple(models_in(field.annotation))
        optional = value is None and not field.is_required()
        is_section = bool(models) and (optional or isinstance(value, BaseModel))
        yield Parameter(
            name=name,
            description=" ".join((field.description or "").split()),
            kind=_words(schema["properties"][name], definitions),
            default=_plain(value),
            required=field.is_required(),
            optional=optional,
            models=models,
            section=(type(value) if isinstance(value, BaseModel) else models[0]) if is_section else None,
        )


def one_line_yaml(value: Any) -> str:
    """Write plain data as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Put a property's JSON schema in words."""
    if "$ref" in schema:
        return _words(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_words(item, definitions) for item in schema[key]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{item}`" for item in schema["enum"])
    kind = schema.get("type", "")
    if kind == "array":
        return _array(schema, definitions)
    if kind == "object":
        return "section"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_NAMES.get(kind, kind), ", ".join(bounds)]).strip()


def _array(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        parts = [_words(item, definitions) for item in schema["prefixItems"]]
        return f"{len(parts)} × {parts[0]}" if len(set(parts)) == 1 else ", ".join(parts)
    return f"list of {_words(schema.get('items', {}), definitions)}"
