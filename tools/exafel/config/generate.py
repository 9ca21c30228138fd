"""The files that are generated from the models: JSON schema, defaults with comments, and the page of parameters.

``python -m exafel.config.generate`` prints how the files under the current folder, the root of a checkout, differ from
what the models say, and exits with 1 if they do; with ``--fix`` it writes them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from exafel.config.describe import one_line_yaml, parameters
from exafel.config.workflow import WorkflowConfig

_NOTE = "Generated from the models in exafel.config by `python -m exafel.config.generate --fix`; edits here are lost."
_WIDTH = 110


def generated_files() -> dict[str, str]:
    """Text of every generated file by its path in the checkout."""
    return {
        "workflows/config/schema.json": schema_text(),
        "workflows/config/defaults.yaml": defaults_text(),
        "docs/parameters.md": parameters_text(),
    }


def schema_text() -> str:
    """JSON schema of a configuration, for editors and other programs."""
    schema = WorkflowConfig.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": _NOTE, **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def defaults_text() -> str:
    """Every parameter with its default, and its documentation as a comment above it."""
    lines = [f"# {_NOTE}", "# yaml-language-server: $schema=schema.json", *_defaults(WorkflowConfig, 0)]
    return "\n".join(lines) + "\n"


def parameters_text() -> str:
    """The page of parameters: a table for each section, sections in the order of the steps."""
    head = [
        "# Parameters",
        "",
        f"<!-- {_NOTE} -->",
        "",
        "Every key of a configuration file, with its default. `exafel config explain KEY` prints the same, and",
        "`exafel config show --config FILE` the file with every default filled in.",
    ]
    return "\n".join([*head, *_tables(WorkflowConfig, "")]) + "\n"


def _defaults(model: type[BaseModel], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for item in parameters(model):
        comment = item.description + (f" ({item.kind})" if item.kind and not item.section else "")
        if depth == 0:
            yield ""
        for line in textwrap.wrap(comment, _WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if item.section is None:
            yield f"{indent}{item.name}: {one_line_yaml(item.default)}"
        elif item.optional:  # the section is off by default, so what it would hold is shown as a comment
            yield f"{indent}{item.name}: null"
            yield from (f"{indent}# {line}" for line in _defaults(item.section, 1) if line)
        elif not item.section.model_fields:
            yield f"{indent}{item.name}: {{}}"
        else:
            yield f"{indent}{item.name}:"
            yield from _defaults(item.section, depth + 1)


def _tables(model: type[BaseModel], prefix: str, variant: str = "") -> Iterator[str]:
    items = list(parameters(model))
    if prefix:
        yield from ("", f"## {prefix.rstrip('.')}{variant and f': {variant}'}")
    yield from ("", _one_line(model.__doc__))
    yield from ("", "| key | default | values | meaning |", "|---|---|---|---|") if items else ()
    for item in items:
        default = "" if item.section or item.required else f"`{one_line_yaml(item.default)}`"
        kind = "section" + (", optional" if item.optional else "") if item.section else item.kind
        meaning = item.description.replace("<", "&lt;")
        cells = (f"`{prefix}{item.name}`", default, kind.replace("<", "&lt;"), meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells).replace("  ", " ") + " |"
    for item in items:
        for section in item.models:
            yield from _tables(section, f"{prefix}{item.name}.", item.variant_of(section))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def main(arguments: list[str] | None = None) -> int:
    """Compare the generated files with the models, or write them; return 1 where they differ and are not written."""
    parser = argparse.ArgumentParser(description=_one_line(__doc__))
    parser.add_argument("--fix", action="store_true", help="write the files")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the checkout (default: this folder)")
    options = parser.parse_args(arguments)
    differs = False
    for name, text in generated_files().items():
        path = options.root / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old == text:
            continue
        if options.fix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path}\n")
        else:
            differs = True
            difference = difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, f"{name} (models)")
            sys.stdout.writelines(difference)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
