"""The model of a site: what it refuses, and that the facilities of the checkout are sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from exafel.config.base import validate
from exafel.errors import ConfigError
from exafel.facility.check import check_site
from exafel.facility.load import facility_names, load_site
from exafel.facility.site import Site

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
NAMES = facility_names(PROFILES)


def test_the_facilities_are_there() -> None:
    assert NAMES == ["frontier", "local", "perlmutter", "slurm"]


@pytest.mark.parametrize("name", NAMES)
def test_facilities_have_no_faults(name: str) -> None:
    assert check_site(load_site(name), PROFILES / name) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(titel="x"), "unknown key 'titel', did you mean 'title'?"),
        (lambda d: d["scheduler"].update(default_partition="x"), "no partition 'x' among main"),
        (lambda d: d["scheduler"]["classes"]["cpu"].update(qos="x"), "no QOS 'x' among normal"),
        (lambda d: d["scheduler"]["classes"]["cpu"].update(nodes="x"), "class 'cpu': no kind of nodes 'x'"),
        (lambda d: d["steps"]["stills"].update(task_class="x"), "step 'stills': no class 'x' among cpu"),
        (lambda d: d["scheduler"].update(executor="parsl"), "step 'stills': executor 'parsl' needs a pilot 'cpu'"),
        (lambda d: d.update(environment="x"), "no environment 'x' among venv"),
        (lambda d: d.update(umask="22"), "umask"),
        (lambda d: d["scheduler"]["classes"]["cpu"].update(account="a b; rm"), "account"),
    ],
)
def test_a_fault_is_one_line_with_its_key(
    data: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(data)
    with pytest.raises(ConfigError) as caught:
        validate(Site, data, where="facility.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_facility_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no facility 'frontire'.*did you mean 'frontier'"):
        load_site("frontire")


def test_the_folder_has_the_facilitys_name(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "other" / "facility.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match="'facility' is 'small', its folder 'other'"):
        load_site(path)


def test_check_finds_time_limits_that_a_site_does_not_give(data: dict[str, Any], tmp_path: Path) -> None:
    data["steps"]["stills"]["runtime_min"] = 121
    data["steps"]["stage2"]["memory_gb_per_rank"] = 9
    faults = check_site(validate(Site, data), tmp_path)
    assert "step 'stills': 121 min, but 2 nodes may have 120" in faults
    assert any(fault.startswith("step 'stage2': 2 ranks of 2 cores and 9 GB do not fit") for fault in faults)
    del data["steps"]["stage2"]
    assert "profile.yaml is not what facility.yaml says" in check_site(validate(Site, data), tmp_path)
