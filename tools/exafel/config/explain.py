"""The documentation of one configuration key, out of the models."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pydantic import BaseModel

from exafel.config.describe import Parameter, one_line_yaml, parameters
from exafel.errors import ConfigError


def explain_key(model: type[BaseModel], key: str) -> str:
    """Describe a dotted key: meaning, values and default; a section is described with the keys in it.

    Raises
    ------
    ConfigError
        There is no such key; the nearest one is named.
    """
    sections: tuple[type[BaseModel], ...] = (model,)
    for part in key.split("."):
        known = {item.name: item for section in sections for item in parameters(section)}
        if part not in known:
            near = difflib.get_close_matches(part, sorted(known), n=1, cutoff=0.5)
            raise ConfigError(f"unknown key '{key}'", hint=f"did you mean '{near[0]}'?" if near else None)
        parameter = known[part]
        sections = parameter.models
    return "\n".join(_lines(key, parameter))


def _lines(key: str, parameter: Parameter) -> Iterator[str]:
    yield f"{key}: {parameter.description}"
    if parameter.section is None:
        yield f"  values: {parameter.kind}"
        yield "  required" if parameter.required else f"  default: {one_line_yaml(parameter.default)}"
    for section in parameter.models:
        variant = parameter.variant_of(section)
        yield "  keys" + (f" of {variant}:" if variant else ":")
        yield from (f"    {item.name}: {item.description}" for item in parameters(section))
