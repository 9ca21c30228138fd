"""The documentation of one configuration key, out of the models."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from exafel.config.base import models_in
from exafel.errors import ConfigError


def explain_key(model: type[BaseModel], key: str) -> str:
    """Describe a dotted key: meaning, type and default; a section is described with the keys in it.

    Raises
    ------
    ConfigError
        There is no such key; the nearest one is named.
    """
    sections: list[type[BaseModel]] = [model]
    lines: list[str] = []
    for part in key.split("."):
        names = sorted({name for section in sections for name in section.model_fields})
        owner = next((section for section in sections if part in section.model_fields), None)
        if owner is None:
            near = difflib.get_close_matches(part, names, n=1, cutoff=0.5)
            raise ConfigError(f"unknown key '{key}'", hint=f"did you mean '{near[0]}'?" if near else None)
        field = owner.model_fields[part]
        sections = models_in(field.annotation)
        lines = [f"{key}: {field.description or ''}".rstrip(), f"  type: {_type_text(field.annotation)}"]
        if field.default is not PydanticUndefined:
            lines.append(f"  default: {field.default!r}")
    for section in sections:
        lines.append(f"  keys of {section.__name__}:")
        lines += [f"    {name}: {field.description or ''}" for name, field in section.model_fields.items()]
    return "\n".join(lines)


def _type_text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
