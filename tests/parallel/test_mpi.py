"""MPI ranks, by a real mpiexec: the collectives, the shared counter, and the ways to go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exafel.parallel.mpi import launched_rank, launched_ranks

PROGRAM = """
import json
from exafel.parallel.launch import launch
from exafel.parallel.mpi import launched_rank
def work(comm):
    with comm.counter() as counter:
        taken = []
        while (first := counter.take(2)) < 40:
            taken.append(first)
    swapped = comm.alltoall([(comm.rank, to) for to in range(comm.size)])
    return {"all": sorted(sum(comm.allgather(taken), [])), "swapped": swapped, "size": comm.size}
result = launch(work)
if launched_rank() == 0:
    print(json.dumps(result))
"""


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_collectives_under_mpiexec(ranks: int, mpi_environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    mpiexec = shutil.which("mpiexec")
    assert mpiexec is not None
    done = subprocess.run(
        [mpiexec, "--oversubscribe", "-n", str(ranks), sys.executable, str(program)],
        env=mpi_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["size"] == ranks
    assert result["all"] == list(range(0, 40, 2))
    assert result["swapped"] == [[rank, 0] for rank in range(ranks)]


@pytest.mark.parametrize(
    ("environ", "ranks", "rank"),
    [
        ({}, 1, 0),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, 4, 3),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "5"}, 1, 0),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, 8, 5),
    ],
)
def test_launchers_are_told_by_their_environment(environ: dict[str, str], ranks: int, rank: int) -> None:
    assert launched_ranks(environ) == ranks
    assert launched_rank(environ) == rank
