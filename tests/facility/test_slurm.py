"""Real Slurm on this machine: a site's policies, its environment on every node, pilots that are preempted and lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from exafel.errors import EngineError
from exafel.facility import pack as packing
from exafel.facility.inventory import Entry
from exafel.facility.load import PROFILES_VARIABLE, load_site
from exafel.facility.pack import pack
from exafel.facility.rehearsal.cluster import Cluster, missing
from exafel.facility.rehearsal.rehearse import rehearse
from exafel.facility.rehearsal.scenarios import running_job, state_of, urgent_job

ROOT = Path(__file__).resolve().parents[2]
KEEP = (ROOT, Path(sys.prefix).resolve())
JOB = ("--account=chm137", "--partition=batch", "--constraint=nvme", "--nodes=2", "--exclusive", "--time=5")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.system,
    pytest.mark.skipif(bool(missing()), reason=f"no rehearsal here without {', '.join(missing())}"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """Folder that every virtual node sees; /tmp is each one's own."""
    folder = Path(tempfile.mkdtemp(prefix="exafel-test-", dir="/var/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROFILES_VARIABLE, str(ROOT / "profiles"))
        started = Cluster(load_site("frontier"), nodes=2, keep=KEEP)
    with started:
        yield started
        family = started.processes()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in family if psutil.pid_exists(pid)], timeout=10)
    assert not alive, "a rehearsal leaves nothing behind"
    assert not started.folder.exists()


def until(ready: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def run_job(cluster: Cluster, script: str, output: Path, *options: str) -> str:
    """Run a batch script and return what it prints."""
    cluster.run("true")
    submitted = subprocess.run(
        ["sbatch", "--parsable", *JOB, f"--output={output}", *options],
        input=f"#!/bin/bash\n{script}\n",
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    until(lambda: state_of(cluster, job) not in ("PENDING", "RUNNING", "COMPLETING"))
    text = output.read_text()
    assert state_of(cluster, job) == "COMPLETED", text
    return text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--account=nobody"], "Invalid account"),
        (["--constraint=moon"], "Invalid feature"),
        (["--qos=moon"], "Invalid qos"),
        (["--nodes=2", "--time=130"], "so many nodes may have at most 120 minutes here"),
    ],
)
def test_the_site_refuses_what_it_does_not_allow(cluster: Cluster, options: list[str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        cluster.run("sbatch", "--account=chm137", "--time=5", *options, "--wrap=true")


def test_every_rank_has_a_gpu_and_every_node_disks_of_its_own(cluster: Cluster, shared: Path) -> None:
    script = 'echo "$(hostname) $ROCR_VISIBLE_DEVICES $(ls -A /mnt/bb | wc -l)"; touch "/mnt/bb/$(hostname)"'
    srun = f"srun --mpi=none --ntasks-per-node=8 --gpus-per-task=1 --overlap bash -c '{script}; sleep 2'"
    said = run_job(cluster, srun, shared / "gpus.txt", "--gpus-per-node=8")
    rows = {tuple(line.split()[:2]) for line in said.splitlines()}
    names = [node.name for node in cluster.shape.nodes]
    assert rows == {(name, str(gpu)) for name in names for gpu in range(8)}
    for name in names:
        assert set(cluster.on_node(name, "ls /mnt/bb").split()) & set(names) == {name}  # others may have left files
    assert not Path("/mnt/bb").exists() or not set(names) & {path.name for path in Path("/mnt/bb").iterdir()}


def test_an_environment_goes_to_every_node_once_and_around_bad_disks(
    cluster: Cluster, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "base_entries", lambda: [Entry("base/data", content=os.urandom(300_000))])
    monkeypatch.setattr(packing, "_warm_caches", list)
    packed, _ = pack(shared / "env")
    program = shared / "deploy.py"
    program.write_text(
        "import dataclasses, json\nfrom pathlib import Path\n"
        "from exafel.facility.deploy import deploy\nfrom exafel.facility.environments import TarballEnvironment\n"
        "from exafel.facility.pack import read_packed\n"
        f"folder = Path({str(shared / 'env')!r})\n"
        f"kind = TarballEnvironment(node_local=('/mnt/bb/x', '/tmp'), shared={str(shared / 'all')!r})\n"
        "for _ in range(2):\n    print(json.dumps(dataclasses.asdict(deploy(read_packed(folder), folder, kind))))\n"
    )
    script = f"{sys.executable} {program}"

    def deployed(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in run_job(cluster, script, shared / name).splitlines()]

    first, second = deployed("plain.txt")
    assert (first["root"], first["nodes"], first["skipped"]) == ("/mnt/bb/x/exafel-env", 2, False)
    assert {"look", "sbcast", "unpack"} == set(first["seconds"])
    assert second["skipped"]
    names = [node.name for node in cluster.shape.nodes]
    for name in names:
        assert packed.base.name in cluster.on_node(name, "ls /mnt/bb/x/exafel-env")
    assert not Path("/mnt/bb/x").exists(), "nothing of it is on this machine's own disk"

    cluster.break_disk(names[1], Path("/mnt/bb"))
    around, _ = deployed("broken.txt")
    assert around["root"] == "/tmp/exafel-env"
    assert len(around["warnings"]) == 1
    cluster.fill_disk(names[1], Path("/tmp"))
    last, _ = deployed("full.txt")
    assert last["root"].startswith(str(shared))
    assert "start-up is slow" in last["warnings"][-1]
    assert (shared / "all" / packed.base.name / ".complete").is_file()
    cluster.on_node(names[1], "umount --lazy /tmp /mnt/bb")


SNAKEFILE = """
rule all:
    input: "done"

rule count:
    output: "done"
    resources: nodes=2, pilot="cpu"
    shell:
        "for i in $(seq $(cat count 2> /dev/null || echo 1) 25); do"
        " echo $i > count; srun --mpi=none --overlap --nodes=2 --ntasks=2 true; sleep 1; done; mv count {output}"
"""


@pytest.mark.timeout(600)  # seconds where two cores are free, minutes where they are shared
def test_a_pilot_that_is_preempted_and_then_loses_a_node_costs_no_retry(cluster: Cluster, shared: Path) -> None:
    folder = shared / "pilots"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    pilot = {
        "label": "cpu",
        "nodes": 2,
        "walltime_min": 30,
        "drain_min": 10,
        "status_seconds": 2,
        "silence_seconds": 30,
    }
    options = ["--account=chm137", "--partition=batch", "--constraint=nvme"]
    (folder / "pilots.yaml").write_text(yaml.safe_dump([{**pilot, "sbatch_options": options}]))
    command = [sys.executable, "-m", "snakemake", "--executor", "parsl", "--parsl-pilots", "pilots.yaml"]
    count = folder / "count"

    def reached(number: int) -> bool:
        return count.is_file() and int(count.read_text().strip() or 0) >= number

    with subprocess.Popen(
        [*command, "--jobs", "2", "--retries", "0"],
        cwd=folder,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        until(lambda: reached(5), 120)
        first, nodes = until(lambda: running_job(cluster, 1))
        urgent = urgent_job(cluster, nodes, 1)
        until(lambda: state_of(cluster, urgent) == "COMPLETED")
        assert state_of(cluster, first) in ("PREEMPTED", "CANCELLED", "FAILED")
        second, nodes = until(lambda: running_job(cluster, 1), 120)
        assert second not in (first, urgent)
        until(lambda: reached(15), 120)
        cluster.crash(nodes[-1])
        until(lambda: cluster.states()[nodes[-1]].startswith("down"), 120)
        cluster.boot(cluster.find(nodes[-1]))
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert f"The pilot 'cpu', job {first}: running" in said
    assert f"The pilot 'cpu', job {second}: " in said
    assert (folder / "done").read_text() == "25\n"
    assert cluster.run("squeue", "-h") == "", "no pilot is left in the queue"
    assert state_of(cluster, second) in ("NODE_FAIL", "CANCELLED", "FAILED")


@pytest.mark.timeout(600)
def test_the_chain_runs_by_a_profile_unchanged(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    structure = str(ROOT / "workflows/config/demo/1a8o.pdb")
    cell = [41.98, 41.98, 88.92, 90, 90, 90]
    config = {
        "dataset": "tiny",
        "results": str(shared / "results"),
        "simulate": {"structure": structure, "n_shots": 16, "crystal": {"size_um": 5.0, "size_jitter": 0.1}},
        "stills": {"indexing": {"unit_cell": cell, "space_group": "P43212"}, "chunk_size": 1},
        "merge": {"minimum_multiplicity": 1},
    }
    (shared / "config.yaml").write_text(yaml.safe_dump(config))
    scripts = sysconfig.get_path("scripts")
    command = [f"{scripts}/snakemake", "--profile", "profiles/perlmutter", "--directory", str(shared), "--configfile"]
    done = rehearse(load_site("perlmutter"), [*command, str(shared / "config.yaml")], nodes=4, say=lambda _: None)
    assert done.returncode == 0, done.accounting
    trial = shared / "results" / "tiny" / "000"
    assert (trial / "report" / "report.html").is_file()
    ranks = json.loads((trial / "stills" / "manifest.json").read_text())["timings_s"]["ranks"]
    assert [rank["host"] for rank in ranks] == [f"perlmutter-cpu{number:03d}" for number in range(1, 5)]
    (pilot,) = [line for line in done.accounting.splitlines() if "parsl.cpu" in line]
    assert {"lcls", "regular"} < set(pilot.split())
    assert "regular_c" in pilot, "the site has found the partition by the constraint"
    steps = [line for line in done.accounting.splitlines() if " exafel " in line]
    assert len(steps) == 5
    assert all("COMPLETED" in line for line in steps)
