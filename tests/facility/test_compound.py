"""Many data sets in one allocation: nodes are shared out, failures stay alone, and what is done is not done again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exafel.cli.main import run as exafel
from exafel.errors import ConfigError
from exafel.facility.compound import Compound, make_members
from exafel.facility.launch import NODE_LIST, compose
from exafel.facility.site import Site


@pytest.fixture
def configs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"set{number}.yaml" for number in range(6)]
    for path in paths:
        path.write_text("good\n")
    return paths


WORK = ["sh", "-c", f"echo ${NODE_LIST} >> {{folder}}/nodes; grep -q good {{config}} && sleep 0.3"]


def test_a_failure_stays_alone_and_is_all_that_is_done_again(configs: list[Path], tmp_path: Path) -> None:
    configs[2].write_text("bad\n")
    said: list[str] = []
    members = make_members(configs, tmp_path / "out", WORK)
    records = Compound(tmp_path / "out", ["n1", "n2", "n3"], 1, said.append).run(members)
    assert [record.state for record in records.values()] == ["done", "done", "failed", "done", "done", "done"]
    assert {(tmp_path / "out" / f"set{i}" / "nodes").read_text().strip() for i in range(6)} == {"n1", "n2", "n3"}

    configs[2].write_text("good\n")
    again: list[str] = []
    records = Compound(tmp_path / "out", ["n1", "n2", "n3"], 1, again.append).run(members)
    assert all(record.state == "done" for record in records.values())
    assert [line for line in again if "begins" in line] == ["set2: begins on n1"]
    assert sum("done before" in line for line in again) == 5


def test_no_node_is_given_twice_at_once(configs: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    members = make_members(configs, tmp_path / "out", WORK)
    Compound(tmp_path / "out", ["n1", "n2", "n3", "n4", "n5"], 2, said.append).run(members)
    busy: dict[str, set[str]] = {}
    for line in said:
        name, rest = line.split(": ")
        if rest.startswith("begins on "):
            nodes = set(rest.split()[2:])
            assert len(nodes) == 2
            assert not nodes & set().union(*busy.values())
            busy[name] = nodes
        else:
            del busy[name]
    assert max(len(line.split()) for line in said if "begins" in line) == 5


def test_a_changed_configuration_is_done_again(configs: list[Path], tmp_path: Path) -> None:
    members = make_members(configs[:2], tmp_path / "out", WORK)
    Compound(tmp_path / "out", ["n1"], 1, lambda _: None).run(members)
    configs[1].write_text("good and new\n")
    said: list[str] = []
    Compound(tmp_path / "out", ["n1"], 1, said.append).run(members)
    assert said[0] == "set0: done before"
    assert "set1: begins on n1" in said


@pytest.mark.slow
def test_sigterm_ends_the_members_and_the_next_run_goes_on(configs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    long = "sh -c 'touch {folder}/started; [ -e {folder}/../go ] || exec sleep 432.1'"
    words = ["facility", "compound", "local", *map(str, configs[:3]), "--out", str(out), "--nodes", "2"]
    command = [sys.executable, "-c", "from exafel.cli.main import main; main()", *words, "--command", long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 60
        while not all((out / name / "started").exists() for name in ("set0", "set1")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "set0: interrupted" in said
    assert "3 of 3 data sets are not done: set0, set1, set2" in said
    (out / "go").touch()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_use_is_one_line(configs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="a data set is to have 2 nodes, but there are 1"):
        Compound(tmp_path, ["n1"], 2, print)
    with pytest.raises(ConfigError, match="two data sets are named 'set0'"):
        make_members([configs[0], configs[0]], tmp_path, WORK)
    assert exafel(["facility", "compound", "local", str(tmp_path / "absent.yaml"), "--out", str(tmp_path)]) == 2
    assert "absent.yaml: no such configuration" in capfd.readouterr().err


def test_a_members_steps_keep_to_its_nodes(frontier: Site) -> None:
    environ = {"EXAFEL_ENV": "/e", NODE_LIST: "n2,n3", "SLURM_JOB_NUM_NODES": "4"}
    words = compose(frontier, "stills", ["exafel", "stills"], environ=environ).words
    assert "--nodes=2" in words
    assert "--nodelist=n2,n3" in words
    assert "--nodelist=n2" in compose(frontier, "report", ["exafel", "report"], environ=environ).words
