"""Generations of a single-particle reconstruction as Parsl tasks over blocks of images.

The step is that of `exafel spi reconstruct`, with the same configuration, into the same files, and it gives the same
map: workers slice, match and merge the blocks that they are sent, and this program adds their sums up. On a machine
with a Parsl configuration of its own, use its executors in place of `local_config`.

    python workflows/parsl/spi.py --config C --images shots --out map --workers 2
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import parsl
from parsl import python_app
from sfx import local_config

from exafel.config.workflow import load_workflow_config
from exafel.errors import ExafelError
from exafel.parallel.comm import SerialComm
from exafel.steps import spi_reconstruct
from exafel.steps.base import Hooks


@python_app
def run_task(function: Callable[..., Any], *args: Any) -> Any:
    """Run one task in a worker."""
    return function(*args)


def reconstruct(request: spi_reconstruct.StepRequest, workers: int, hooks: Hooks) -> spi_reconstruct.Summary:
    """Run the step with its tasks in workers of this machine; Parsl's own files go beside the results."""
    submit: Callable[..., Future[Any]] = run_task
    with parsl.load(local_config(request.out.absolute() / "parsl", workers)):
        return spi_reconstruct.run(request, SerialComm(), hooks, tasks=spi_reconstruct.Tasks(submit, workers))


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit code, the same as that of `exafel`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="configuration, YAML")
    parser.add_argument("--images", type=Path, action="append", required=True, help="file or folder of shots")
    parser.add_argument("--hits", type=Path, help="folder of a spi hits step: only its single hits are used")
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    options = parser.parse_args(arguments)
    try:
        config = load_workflow_config(options.config, {})
        request = spi_reconstruct.request(config.spi_reconstruct, options.images, options.out, hits=options.hits)
        summary = reconstruct(request, max(1, options.workers), Hooks(note=partial(print, file=sys.stderr)))
    except ExafelError as error:
        print(f"exafel: {error}", file=sys.stderr)
        return error.exit_code
    print(summary.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
