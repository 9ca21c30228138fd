"""Snakemake with the plugin, pilots being processes of this machine: plain rules, others, failures, an interrupt."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("parsl")

from snakemake_executor_plugin_parsl.executor import Executor

pytestmark = [pytest.mark.system, pytest.mark.slow]

SNAKEFILE = """
rule all:
    input: expand("out/{i}.txt", i=range(4)), "out/run.txt"

rule plain:
    output: "out/{i}.txt"
    threads: 2
    benchmark: "bench/{i}.tsv"
    shell: "echo {wildcards.i} $OMP_NUM_THREADS $(false | true; echo $?) > {output}"

rule run:
    output: "out/run.txt"
    run:
        open(output[0], "w").write("run")

rule fails:
    output: "out/fails.txt"
    shell: "echo tried >> tries; echo what is wrong >&2; false | true; echo never > {output}"

rule long:
    output: "out/long.txt"
    shell: "touch started; sleep 543.21; touch {output}"

rule elsewhere:
    output: "out/elsewhere.txt"
    resources: pilot="moon"
    shell: "touch {output}"
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "pilots.yaml").write_text("- {label: here, workers: 4, slurm: false, status_seconds: 2}\n")
    options = ["--executor", "parsl", "--parsl-pilots", "pilots.yaml", "--jobs", "8", "--directory", "work"]
    return [sys.executable, "-m", "snakemake", *options]


def snakemake(command: list[str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )


def test_rules_run_in_a_pilot(command: list[str], tmp_path: Path) -> None:
    done = snakemake(command, tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "work" / "out/3.txt").read_text() == "3 2 1\n", "the shell is as strict as Snakemake makes it"
    assert (tmp_path / "work" / "out/run.txt").read_text() == "run"
    header, row = (tmp_path / "work" / "bench/3.tsv").read_text().splitlines()
    assert header.startswith("s\th:m:s\tmax_rss")
    assert float(row.split("\t")[2]) > 0
    again = snakemake(command, tmp_path)
    assert "Nothing to be done" in again.stdout, "what ran in a pilot is remembered"


def test_a_rule_that_fails_is_tried_again_by_snakemake_and_says_why(command: list[str], tmp_path: Path) -> None:
    done = snakemake(command, tmp_path, "out/fails.txt", "--retries", "1")
    assert done.returncode == 1
    assert "what is wrong" in done.stdout
    assert "exit code 1 on" in done.stdout
    assert (tmp_path / "work" / "tries").read_text() == "tried\ntried\n"
    assert not (tmp_path / "work" / "out/fails.txt").exists()


def test_a_pilot_that_is_not_there_is_named(command: list[str], tmp_path: Path) -> None:
    done = snakemake(command, tmp_path, "out/elsewhere.txt")
    assert done.returncode == 1
    assert "no pilot 'moon', but here" in done.stdout


def test_the_thread_that_watches_jobs_may_look_before_the_executor_is_ready() -> None:
    async def look() -> list[object]:
        return [info async for info in Executor.__new__(Executor).check_active_jobs([])]

    assert asyncio.run(look()) == []


def test_an_interrupt_leaves_no_process_behind(command: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*command, "out/long.txt"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 100
        while not (tmp_path / "work" / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=100)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, said
    sleeps = [item for item in psutil.process_iter(["cmdline"]) if item.info["cmdline"] == ["sleep", "543.21"]]
    assert not sleeps, said
    assert not (tmp_path / "work" / "out/long.txt").exists()
