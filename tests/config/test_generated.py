"""The generated files are what the models say, and what they say is right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
import yaml
from pydantic import Field

from exafel.config.base import Model, validate
from exafel.config.describe import parameters
from exafel.config.generate import defaults_text, generated_files, main, schema_text
from exafel.config.simulate import SimulateSfxConfig
from exafel.config.workflow import WorkflowConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "workflows" / "config").rglob("*.yaml"))


def test_the_files_in_the_checkout_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    differs = main(["--root", str(ROOT)])
    assert not differs, f"{capsys.readouterr().out}\npython -m exafel.config.generate --fix writes them"


def test_a_difference_is_shown_and_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path)]) == 1
    assert main(["--root", str(tmp_path), "--fix"]) == 0
    path = tmp_path / "workflows" / "config" / "defaults.yaml"
    path.write_text(path.read_text().replace("dataset: dataset", "dataset: other"))
    capsys.readouterr()
    assert main(["--root", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "-dataset: other\n+dataset: dataset\n" in shown
    assert main(["--root", str(tmp_path), "--fix"]) == 0
    assert main(["--root", str(tmp_path)]) == 0


def test_the_defaults_file_holds_the_models_defaults() -> None:
    data = yaml.safe_load(defaults_text())
    assert validate(WorkflowConfig, data) == WorkflowConfig()
    assert data == WorkflowConfig().model_dump(mode="json"), "every key is written down"


def test_the_optional_section_in_the_defaults_file_can_be_switched_on_by_removing_the_comment_signs() -> None:
    text = defaults_text()
    start = text.index("simulate: null")
    section, rest = text[start:].split("\n\n", maxsplit=1)
    lines = section.splitlines()
    switched_on = "\n".join(["simulate:", *(line.removeprefix("# ") for line in lines[1:])])
    data = yaml.safe_load(f"{text[:start]}{switched_on}\n\n{rest}")
    assert validate(WorkflowConfig, data).simulate == SimulateSfxConfig()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_in_the_checkout_fits_models_and_schema(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    validate(WorkflowConfig, data, where=path)
    jsonschema.Draft202012Validator(json.loads(schema_text())).validate(data)


def test_the_schema_refuses_what_the_models_refuse() -> None:
    schema = jsonschema.Draft202012Validator(json.loads(schema_text()))
    assert schema.is_valid({"images": "folder"})
    assert schema.is_valid({"images": ["folder", "other"]})
    for wrong in ({"dataste": "x"}, {"dataset": "a/b"}, {"simulate": {"n_shots": 0}}, {"images": 3}):
        assert not schema.is_valid(wrong), wrong


def test_the_page_of_parameters_has_every_key_once_with_its_meaning() -> None:
    page = generated_files()["docs/parameters.md"]
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|.*\| ([^|]*) \|$", page, flags=re.MULTILINE)
    assert all(meaning.strip() for _, meaning in rows)
    expected = list(_keys(WorkflowConfig().model_dump(mode="json"), ""))
    assert set(expected) <= {key for key, _ in rows}


def _keys(data: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for key, value in data.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{key}.")
    return found


class Round(Model):
    type: Literal["round"] = "round"
    radius_mm: float = Field(1.0, gt=0, le=5, description="Radius.")


class Square(Model):
    type: Literal["square"] = "square"
    sides_mm: tuple[float, float] = Field((1, 2), description="Sides.")


class Hole(Model):
    shape: Annotated[Round | Square, Field(discriminator="type")] = Field(default_factory=Square, description="Shape.")
    depth_mm: float | None = Field(None, ge=0, description="Depth.")
    names: tuple[str, ...] = Field(description="Names.")
    count: Literal[1, 2] = Field(2, description="Count.")


def test_parameters_are_put_in_words() -> None:
    shape, depth, names, count = parameters(Hole)
    assert (shape.section, shape.models) == (Square, (Round, Square))
    assert [shape.variant_of(model) for model in shape.models] == ["round", "square"]
    assert (depth.kind, depth.default, depth.optional) == ("number ≥ 0 or empty", None, True)
    assert (names.kind, names.required) == ("list of text", True)
    assert (count.kind, count.default) == ("`1` or `2`", 2)
    radius = list(parameters(Round))[1]
    assert radius.kind == "number > 0, ≤ 5"
    assert list(parameters(Square))[1].kind == "2 × number"
