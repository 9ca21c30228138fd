"""Pilots: jobs of Slurm inside which many tasks run, as a configuration of Parsl.

A pilot that is preempted, loses its node or reaches its time limit is replaced, and the tasks that it took along are
given to the next one. A pilot whose end is near takes no more tasks.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from parsl import Config, HighThroughputExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.jobs.states import TERMINAL_STATES, JobState
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider, SlurmProvider

from snakemake_executor_plugin_parsl.shapes import Pilot
from snakemake_executor_plugin_parsl.task import NodeLostError

_LOST_PILOTS_A_TASK = 20
_STILLBORN_PILOTS = 3


class PilotProvider(SlurmProvider):
    """Slurm, asked as often as the site allows."""

    status_seconds = 60

    @property
    def status_polling_interval(self) -> int:
        """Seconds between questions."""
        return self.status_seconds


def parsl_config(pilots: Sequence[Pilot], run_dir: Path) -> Config:
    """Return Parsl's configuration for pilots: an executor for each shape, named by its label."""
    return Config(
        executors=[_executor(pilot) for pilot in pilots],
        run_dir=str(run_dir),
        retries=_LOST_PILOTS_A_TASK,
        retry_handler=retry_cost,
        strategy="simple",
        strategy_period=2,
        max_idletime=60.0,
        usage_tracking=0,
        initialize_logging=True,
    )


def retry_cost(error: Exception, _task: object) -> float:
    """Say what a failure costs of a task's retries: little where its pilot was lost, all where it failed itself."""
    return 1.0 if isinstance(error, ManagerLost | WorkerLost | NodeLostError) else _LOST_PILOTS_A_TASK + 1.0


def _executor(pilot: Pilot) -> HighThroughputExecutor:
    module = "parsl.executors.high_throughput"
    python = shlex.quote(sys.executable)
    executor = HighThroughputExecutor(
        label=pilot.label,
        address="127.0.0.1",
        max_workers_per_node=pilot.workers,
        cores_per_worker=1e-3,  # workers wait for srun; Slurm shares the cores out
        heartbeat_period=max(1, pilot.silence_seconds // 4),
        heartbeat_threshold=pilot.silence_seconds,
        drain_period=60 * (pilot.walltime_min - pilot.drain_min),
        provider=_provider(pilot),
        block_error_handler=end_where_no_pilot_lives,
        # Parsl's helpers by this very Python: PATH need not lead to them, nor to the same environment.
        interchange_launch_cmd=[*_ends_with_parent(), sys.executable, "-m", f"{module}.interchange"],
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", f"{python} -m {module}.process_worker_pool"),
    )
    executor.all_addresses = _addresses()
    return executor


def _ends_with_parent() -> list[str]:
    """Return what a command begins with to be killed when its parent is: util-linux has it, so on Linux."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _provider(pilot: Pilot) -> SlurmProvider | LocalProvider:
    worker_init = "\n".join(pilot.worker_init)
    if not pilot.slurm:
        return LocalProvider(  # type: ignore[no-untyped-call] # Parsl does not annotate it
            init_blocks=0, min_blocks=0, max_blocks=pilot.max_blocks, worker_init=worker_init
        )
    # A pilot that Slurm queued again would come back beside its replacement.
    options = ("--no-requeue", *pilot.sbatch_options)
    provider = PilotProvider(
        nodes_per_block=pilot.nodes,
        gpus_per_node=pilot.gpus_per_node or None,
        init_blocks=0,
        min_blocks=0,
        max_blocks=pilot.max_blocks,
        parallelism=float(pilot.nodes),  # Parsl takes every node's workers for there; they are on the first alone
        walltime=f"{pilot.walltime_min // 60:02d}:{pilot.walltime_min % 60:02d}:00",
        scheduler_options="\n".join(f"#SBATCH {option}" for option in options),
        worker_init=worker_init,
        cmd_timeout=120,
        exclusive=True,
        launcher=SimpleLauncher(),
    )
    provider.status_seconds = pilot.status_seconds
    return provider


def _addresses() -> set[str]:
    """Addresses of this machine's interfaces; Parsl's own way would ask a server on the internet as well."""
    return {item.address for found in psutil.net_if_addrs().values() for item in found if item.family == socket.AF_INET}


def end_where_no_pilot_lives(executor: Any, status: Mapping[str, Any]) -> None:
    """Give up when the last pilots all ended without a worker of theirs having been heard of: the next would too."""
    last = sorted(status, key=int)[-_STILLBORN_PILOTS:]
    if len(last) < _STILLBORN_PILOTS or any(status[block].state not in TERMINAL_STATES for block in last):
        return
    if set(last) & set(executor.connected_blocks()) or any(status[block].state == JobState.CANCELLED for block in last):
        return
    newest = status[last[-1]]
    said = [text.strip() for text in (newest.message, newest.stderr_summary, newest.stdout_summary) if text]
    reason = said[0].splitlines()[-1] if said else newest.state.name
    executor.set_bad_state_and_fail_all(RuntimeError(f"{len(last)} pilots '{executor.label}' ended at once: {reason}"))
