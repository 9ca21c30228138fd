"""Pilots: their shapes, what Parsl makes of them, what a lost one costs, and when to give up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("parsl")
import psutil
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.states import JobState, JobStatus

from snakemake_executor_plugin_parsl.pilots import (
    PilotProvider,
    end_where_no_pilot_lives,
    parsl_config,
    retry_cost,
)
from snakemake_executor_plugin_parsl.shapes import Pilot, read_pilots


def test_shapes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pilots.yaml"
    path.write_text("- {label: cpu, nodes: 4, sbatch_options: [--qos=debug]}\n- {label: gpu, slurm: false}\n")
    assert read_pilots(path) == (Pilot("cpu", nodes=4, sbatch_options=("--qos=debug",)), Pilot("gpu", slurm=False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "cannot read the pilots"),
        ("{}", "should be a list of pilots"),
        ("[]", "should be a list of pilots"),
        ("- {nodes: 1}", "a pilot without a label"),
        ("- {label: a, node: 1}", "unknown key 'node' of a pilot; there are drain_min"),
    ],
)
def test_wrong_shapes_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pilots.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pilots(path)
    with pytest.raises(ValueError, match="cannot read"):
        read_pilots(tmp_path / "absent.yaml")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv of util-linux")
def test_parsls_interchange_ends_with_a_killed_snakemake(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
import parsl
from snakemake_executor_plugin_parsl.pilots import parsl_config
from snakemake_executor_plugin_parsl.shapes import Pilot

parsl.load(parsl_config((Pilot("cpu", slurm=False),), Path(sys.argv[1])))
print(parsl.dfk().executors["cpu"].interchange_proc.pid, flush=True)
time.sleep(100)
"""
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        interchange = psutil.Process(int(parent.stdout.readline()))
        assert interchange.is_running()
        parent.kill()
    assert not psutil.wait_procs([interchange], timeout=10)[1]


def test_a_pilot_asks_slurm_for_what_its_shape_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PilotProvider, "execute_wait", lambda *_: (0, "", ""))  # the question for sacct
    pilot = Pilot("gpu", nodes=4, gpus_per_node=8, walltime_min=125, drain_min=30, sbatch_options=("--account=abc",))
    (executor,) = parsl_config((pilot,), tmp_path).executors
    provider = executor.provider
    assert (provider.nodes_per_block, provider.walltime, provider.status_polling_interval) == (4, "02:05:00", 30)
    options = set(provider.scheduler_options.split("\n"))
    assert {"#SBATCH --account=abc", "#SBATCH --no-requeue", "#SBATCH --gpus-per-node=8"} <= options
    assert executor.drain_period == 95 * 60
    assert "127.0.0.1" in executor.all_addresses


def test_a_lost_pilot_costs_a_task_nothing_of_note_and_its_own_failure_all(tmp_path: Path) -> None:
    budget = parsl_config((Pilot("here", slurm=False),), tmp_path).retries
    assert retry_cost(ManagerLost(b"m", "node"), None) * 10 <= budget
    assert retry_cost(WorkerLost(1, "node"), None) * 10 <= budget
    assert retry_cost(RuntimeError("its own"), None) > budget


@pytest.mark.parametrize(
    ("states", "connected", "ends"),
    [
        ([JobState.FAILED] * 3, [], True),
        ([JobState.FAILED] * 2, [], False),
        ([JobState.FAILED] * 3, ["1"], False),
        ([JobState.FAILED, JobState.FAILED, JobState.PENDING], [], False),
        ([JobState.FAILED, JobState.FAILED, JobState.CANCELLED], [], False),
        ([JobState.RUNNING, JobState.TIMEOUT, JobState.FAILED, JobState.COMPLETED], [], True),
    ],
)
def test_it_gives_up_where_no_pilot_lives(states: list[JobState], connected: list[str], ends: bool) -> None:
    said: list[Exception] = []
    executor: Any = SimpleNamespace(
        label="cpu", connected_blocks=lambda: connected, set_bad_state_and_fail_all=said.append
    )
    status = {
        str(number): JobStatus(state, message="sbatch: error: no\nsuch account") for number, state in enumerate(states)
    }
    end_where_no_pilot_lives(executor, status)
    assert [str(error) for error in said] == (["3 pilots 'cpu' ended at once: such account"] if ends else [])


def test_snakemake_starts_where_parsl_is_not_installed() -> None:
    """Every plugin that is installed is imported by every Snakemake."""
    program = (
        "import sys\n"
        "sys.modules['parsl'] = None  # importing it fails, as where it is missing\n"
        "import snakemake_executor_plugin_parsl as plugin\n"
        "assert plugin.Executor and plugin.ExecutorSettings\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
