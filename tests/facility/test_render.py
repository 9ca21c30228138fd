"""Generated files are what facility.yaml says, are mended where they are not, and their readers can read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import jsonschema
import pytest
import yaml

from exafel.cli.main import run as exafel
from exafel.facility.load import facility_names, load_site
from exafel.facility.render import ENDPOINT, ENDPOINT_SCHEMA, PILOTS, PROFILE, generated_files, out_of_step

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def test_the_files_in_the_checkout_are_in_step() -> None:
    difference = "".join(out_of_step(PROFILES / name, load_site(name)) for name in facility_names(PROFILES))
    assert not difference, f"{difference}\nexafel facility render --fix mends them"


def test_a_change_is_shown_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(PROFILES / "slurm", tmp_path / "slurm")
    monkeypatch.setenv("EXAFEL_PROFILES", str(tmp_path))
    path = tmp_path / "slurm" / "facility.yaml"
    path.write_text(path.read_text().replace("account: project", "account: other"))
    assert exafel(["facility", "render"]) == 1
    shown = capfd.readouterr().out
    assert "-    slurm_account: project\n+    slurm_account: other\n" in shown
    assert exafel(["facility", "check"]) == 2
    assert "profile.yaml is not what facility.yaml says" in capfd.readouterr().err
    assert exafel(["facility", "render", "slurm", "--fix"]) == 0
    assert exafel(["facility", "check"]) == 0


@pytest.mark.parametrize("name", ["frontier", "perlmutter", "slurm"])
def test_the_endpoint_takes_what_its_schema_lets_through(name: str) -> None:
    files = generated_files(load_site(name))
    schema = jsonschema.Draft202012Validator(json.loads(files[ENDPOINT_SCHEMA]))
    choices = {"account": "abc123", "nodes": 2, "walltime": "01:00:00"}
    assert schema.is_valid(choices)
    for wrong in ({"qos": "root"}, {"nodes": 10**6}, {"account": "a\n#SBATCH -x"}, {"worker_init": "rm"}):
        assert not schema.is_valid(wrong), wrong
    config = yaml.safe_load(
        jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(files[ENDPOINT]).render(choices)
    )
    provider = config["engine"]["provider"]
    assert (provider["account"], provider["nodes_per_block"], provider["walltime"]) == ("abc123", 2, "01:00:00")


@pytest.mark.parametrize("name", ["frontier", "perlmutter", "slurm"])
def test_the_batch_script_is_sound_shell(name: str) -> None:
    script = PROFILES / name / "batch.sh"
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert script.read_text().startswith("#!/bin/bash\n")


def test_profiles_name_every_rule_of_the_workflow() -> None:
    files = sorted((PROFILES.parent / "workflows" / "rules").glob("*.smk"))
    rules = {name for path in files for name in re.findall(r"^ *rule (\w+):", path.read_text(), re.MULTILINE)}
    assert {"stills", "stage2", "spi_generations", "report"} <= rules
    for name in ("frontier", "perlmutter", "slurm"):
        profile = yaml.safe_load((PROFILES / name / PROFILE).read_text())
        assert rules - set(profile["set-resources"]) == set(), name


@pytest.mark.parametrize("name", ["frontier", "perlmutter"])
def test_the_pilots_are_those_of_the_facility(name: str) -> None:
    pytest.importorskip("parsl")
    from snakemake_executor_plugin_parsl.shapes import read_pilots

    pilots = read_pilots(PROFILES / name / PILOTS)
    site = load_site(name)
    assert [pilot.label for pilot in pilots] == list(site.pilots)
    assert all(pilot.nodes == site.pilots[pilot.label].nodes for pilot in pilots)
