"""Configuration errors name the key, the fault and the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from exafel.config.base import Model, read_yaml, validate
from exafel.config.explain import explain_key
from exafel.config.workflow import WorkflowConfig, load_workflow_config
from exafel.errors import ConfigError


class Inner(Model):
    threshold: float = Field(1.0, gt=0, description="Threshold, photons.")


class Outer(Model):
    name: str
    inner: Inner = Field(default_factory=Inner, description="The inner section.")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "inner": {"treshold": 2}}, "unknown key 'inner.treshold', did you mean 'threshold'?"),
        ({"name": "a", "iner": {}}, "unknown key 'iner', did you mean 'inner'?"),
        ({"name": "a", "zzz": 1}, "unknown key 'zzz'"),
        ({}, "'name' is required"),
        ({"name": "a", "inner": {"threshold": -1}}, r"'inner.threshold': input should be greater than 0 \(got -1\)"),
    ],
)
def test_each_fault_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate(Outer, data, where="x.yaml")
    assert str(caught.value).startswith("x.yaml: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({"n_intensity_bins": 3}, "'merge.error.model' is required: 'none', 'ev11', 'mm24'"),
        ({"model": "ev12"}, "'given' (got 'ev12')"),
        (
            {"model": "ev11", "intensity_bins": 3},
            "merge.error.intensity_bins', did you mean 'n_intensity_bins'?",
        ),
        ({"model": "ev11", "n_intensity_bins": 1}, "'merge.error.n_intensity_bins': input should be greater than"),
    ],
)
def test_faults_in_a_section_of_several_kinds_are_named_by_the_keys_of_the_file(
    errors: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(WorkflowConfig, {"merge": {"error": errors}})
    assert message in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"nme.*'name' is required|'name' is required.*nme"):
        validate(Outer, {"nme": "a"})


@pytest.mark.parametrize("text", ["a: [1, 2", "- a\n- b\n", "\x00"])
def test_yaml_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_yaml(path)


def test_a_section_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("merge: {d_min: 2.0}\ndataset: one\nmerge: {d_max: 20}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: .*key 'merge' is given twice.*line 3"):
        read_yaml(path)


def test_overrides_go_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("dataset: one\ntrial: '001'\n")
    config = load_workflow_config(path, {"dataset": "two"})
    assert (config.dataset, config.trial) == ("two", "001")
    with pytest.raises(ConfigError, match="is a value, not a section"):
        load_workflow_config(path, {"dataset.x": 1})


def test_explain_tells_meaning_type_and_default() -> None:
    text = explain_key(Outer, "inner.threshold")
    assert "Threshold, photons." in text
    assert "number > 0" in text
    assert "1.0" in text
    with pytest.raises(ConfigError, match=r"did you mean 'threshold'"):
        explain_key(Outer, "inner.treshold")


def test_every_parameter_is_described() -> None:
    def undocumented(model: type[Model], prefix: str) -> list[str]:
        from exafel.config.base import models_in

        missing = []
        for name, field in model.model_fields.items():
            if not field.description:
                missing.append(prefix + name)
            for inner in models_in(field.annotation):
                missing += undocumented(inner, f"{prefix}{name}.")
        return missing

    assert undocumented(WorkflowConfig, "") == []
