"""From images to merged structure factors and a report, as Parsl apps.

The same steps as the Snakemake rules, into the same folders: `exafel.steps` computes, `exafel.steps.chain` says what
follows what, and this program starts each step as soon as those that it needs have ended.

    python workflows/parsl/sfx.py --config workflows/config/demo.yaml --results results
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import parsl
from parsl import Config, HighThroughputExecutor, python_app
from parsl.dataflow.errors import DependencyError
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.providers import LocalProvider

from exafel.config.workflow import WorkflowConfig, load_workflow_config
from exafel.errors import EngineError, ExafelError
from exafel.steps.chain import Link, chain_of, trial_folder, write_config


@python_app
def run_step(config: dict[str, Any], step: str, ranks: int, *_before: Any) -> dict[str, Any]:
    """Run one step in a worker; Parsl waits for the futures in `_before` first."""
    from exafel.config.workflow import WorkflowConfig
    from exafel.steps.chain import run_link

    return run_link(WorkflowConfig.model_validate(config), step, ranks=ranks).model_dump(mode="json")


def local_config(run_dir: Path, workers: int = 1) -> Config:
    """Return Parsl's configuration for this machine: by default one worker, which starts a step's ranks itself."""
    module = "parsl.executors.high_throughput"
    executor = HighThroughputExecutor(
        label="local",
        address="127.0.0.1",
        max_workers_per_node=workers,
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        # Parsl's helpers by this very Python: PATH need not lead to them, nor to the same environment.
        interchange_launch_cmd=[sys.executable, "-m", f"{module}.interchange"],
        launch_cmd=DEFAULT_LAUNCH_CMD.replace(
            "process_worker_pool.py", f"{shlex.quote(sys.executable)} -m {module}.process_worker_pool"
        ),
    )
    return Config(executors=[executor], run_dir=str(run_dir), strategy="none", usage_tracking=0)


def submit(config: WorkflowConfig, links: Iterable[Link], ranks: int) -> dict[str, Future[dict[str, Any]]]:
    """Submit every step of the chain; return their futures by name."""
    data = config.model_dump(mode="json")
    futures: dict[str, Future[dict[str, Any]]] = {}
    for link in links:
        futures[link.step] = run_step(data, link.step, ranks, *(futures[name] for name in link.after))
    return futures


def collect(futures: dict[str, Future[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Wait for all steps and return their summaries.

    Raises
    ------
    ExafelError
        What the first step that failed has raised.
    """
    summaries, failures = {}, []
    for step, future in futures.items():
        try:
            summaries[step] = future.result()
        except DependencyError:
            continue  # the step that failed is reported, not those that wait for it
        except ExafelError as error:
            failures.append(error)
        except Exception as error:
            failures.append(
                EngineError(f"the worker of step '{step}' failed: {error}", hint="its log is in logs/parsl")
            )
        else:
            state = "up to date" if summaries[step]["up_to_date"] else "done"
            print(f"{step}: {state}", file=sys.stderr, flush=True)
    if failures:
        raise failures[0]
    return summaries


def run(config: WorkflowConfig, ranks: int) -> dict[str, dict[str, Any]]:
    """Run the chain on this machine and return the steps' summaries; Parsl's own files go beside the results."""
    links = chain_of(config)
    write_config(config)
    with parsl.load(local_config(trial_folder(config).absolute() / "logs" / "parsl")):
        return collect(submit(config, links, ranks))


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code, the same as that of `exafel`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--config", type=Path, help="configuration, YAML")
    parser.add_argument("--images", action="append", help="image file or folder of them; repeatable")
    parser.add_argument("--results", help="folder for results (default: as the configuration says)")
    parser.add_argument("--ranks", type=int, default=os.cpu_count(), help="processes a step (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print the steps' summaries as one JSON object")
    options = parser.parse_args(arguments)
    given = {"images": options.images, "results": options.results}
    try:
        config = load_workflow_config(options.config, {key: value for key, value in given.items() if value})
        summaries = run(config, max(1, options.ranks))
    except ExafelError as error:
        print(f"exafel: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps(summaries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
