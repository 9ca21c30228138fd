"""Trivial rules by Snakemake's slurm plugin, a job each, and by our parsl plugin, in one pilot, on one real Slurm.

    python benchmarks/executors.py --rules 200 --slurm-rules 12

Needs root and Debian's Slurm (`exafel facility rehearse` says which packages). A rule by the slurm plugin costs two
starts of Snakemake, so few are enough to know its rate; the ratio of times is per rule.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from exafel.facility.load import load_site
from exafel.facility.rehearsal.cluster import Cluster

SNAKEFILE = 'rule all:\n    input: expand("out/{{i}}", i=range({rules}))\n'
SNAKEFILE += 'rule one:\n    output: "out/{{i}}"\n    shell: "echo {{wildcards.i}} > {{output}}"\n'


def timed(cluster: Cluster, folder: Path, rules: int, options: list[str]) -> tuple[float, int]:
    """Seconds that so many rules take, and jobs of Slurm that they needed."""
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE.format(rules=rules))
    before = len(cluster.run("sacct", "-n", "-X", "-S", "now-1days", "-o", "JobID").split())
    start = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--jobs", "50", "--quiet", "all", *options]
    subprocess.run(command, cwd=folder, env=cluster.environment, check=True)
    seconds = time.perf_counter() - start
    return seconds, len(cluster.run("sacct", "-n", "-X", "-S", "now-1days", "-o", "JobID").split()) - before


def main() -> None:
    """Measure both and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rules", type=int, default=200, help="rules in the pilot")
    parser.add_argument("--slurm-rules", type=int, default=12, help="rules by the slurm plugin")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="exafel-executors-", dir="/var/tmp"))
    pilots = folder / "pilots.yaml"
    options = ["--account=project", "--partition=main"]
    pilots.write_text(yaml.safe_dump([{"label": "cpu", "workers": 8, "status_seconds": 5, "sbatch_options": options}]))
    resources = ["slurm_account=project", "slurm_partition=main", "runtime=20", "mem_mb=500"]
    slurm = ["--executor", "slurm", "--default-resources", *resources, "--slurm-init-seconds-before-status-checks", "2"]
    slurm += ["--seconds-between-status-checks", "2"]
    try:
        with Cluster(load_site("slurm"), nodes=2) as cluster:
            pilot_s, pilot_jobs = timed(
                cluster, folder / "parsl", given.rules, ["--executor", "parsl", "--parsl-pilots", str(pilots)]
            )
            slurm_s, slurm_jobs = timed(cluster, folder / "slurm", given.slurm_rules, slurm)
    finally:
        shutil.rmtree(folder)
    print(f"parsl plugin: {given.rules} rules in {pilot_s:.1f} s, {pilot_jobs} jobs of Slurm")
    print(f"slurm plugin: {given.slurm_rules} rules in {slurm_s:.1f} s, {slurm_jobs} jobs of Slurm")
    print(f"a rule: {slurm_s / given.slurm_rules / (pilot_s / given.rules):.1f} times faster in the pilot")
    print(f"jobs a rule: {slurm_jobs / given.slurm_rules / (pilot_jobs / given.rules):.0f} times fewer")


if __name__ == "__main__":
    main()
