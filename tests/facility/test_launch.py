"""Launch lines, word for word."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from exafel.cli.main import run as exafel
from exafel.config.base import validate
from exafel.errors import ConfigError
from exafel.facility.launch import allocated_nodes, compose
from exafel.facility.load import load_site
from exafel.facility.site import Site

STEP = ("exafel", "stills", "--out", "a b", "--ranks", "64")


def test_on_frontier_ranks_are_bound_to_gcds(frontier: Site) -> None:
    launch = compose(frontier, "stage2", ["exafel", "stage2"], images=2**19, environ={"EXAFEL_ENV": "/mnt/bb/u/e"})
    assert shlex.join(launch.words) == (
        "srun --nodes=256 --ntasks=4096 --ntasks-per-node=16 --cpus-per-task=3 --mem=512000M --exact"
        " --threads-per-core=1 --kill-on-bad-exit=1 --gpus-per-node=8 --gpu-bind=closest --cpu-bind=cores"
        " /mnt/bb/u/e/bin/exafel-env exafel stage2"
    )
    assert launch.variables["OMP_PLACES"] == "threads"


def test_without_its_environment_a_step_does_not_start(frontier: Site) -> None:
    with pytest.raises(ConfigError, match=r"EXAFEL_ENV is not set .exafel env deploy"):
        compose(frontier, "stills", STEP, environ={})


def test_on_perlmutter_a_container_is_put_around_the_command(perlmutter: Site) -> None:
    launch = compose(perlmutter, "stage2", STEP, nodes=2, environment="podman-hpc", environ={})
    text = shlex.join(launch.words)
    assert text.startswith("srun --nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=16 --mem=128000M")
    assert "CUDA_VISIBLE_DEVICES=$((SLURM_LOCALID / 1))" in text
    image = "localhost/exafel:latest"
    assert text.endswith(
        f"podman-hpc run --rm --mpi --gpu --env EXAFEL_IMAGE={image} {image} exafel stills --out 'a b'"
    )
    assert "--gpu " not in shlex.join(compose(perlmutter, "stills", STEP, environment="podman-hpc", environ={}).words)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"type": "podman-hpc", "image": "x:1", "digest": "sha256:" + "0" * 64, "volumes": ["/a:/b"], "mpi": False},
            f"podman-hpc run --rm --volume /a:/b --env EXAFEL_IMAGE=x@sha256:{'0' * 64} x@sha256:{'0' * 64}",
        ),
        (
            {"type": "apptainer", "image": "x.sif", "volumes": ["/a:/b"]},
            "apptainer exec --bind /a:/b --env EXAFEL_IMAGE=x.sif x.sif",
        ),
        ({"type": "shifter", "image": "x:1"}, "shifter --image=x:1 --module=mpich --env=EXAFEL_IMAGE=x:1"),
    ],
)
def test_other_containers(data: dict[str, Any], section: dict[str, Any], words: str) -> None:
    data["environments"] = {"venv": {"type": "venv"}, "box": section}
    launch = compose(validate(Site, data), "stills", ["exafel"], environment="box", environ={})
    assert shlex.join(launch.words).endswith(f"--cpu-bind=cores {words} exafel")


def test_a_container_by_a_digest_that_is_none_is_refused(data: dict[str, Any]) -> None:
    data["environments"] = {"venv": {"type": "venv"}, "box": {"type": "shifter", "image": "x", "digest": "latest"}}
    with pytest.raises(ConfigError, match=r"environments\.box.*digest.*sha256"):
        validate(Site, data)


def test_the_launchers_ranks_take_the_place_of_local_ones(data: dict[str, Any]) -> None:
    site = validate(Site, data)
    for words in (STEP, (*STEP[:-2], "--ranks=64"), (*STEP[:-2], "-j", "64")):
        assert compose(site, "stills", words, environ={}).words[-4:] == ("exafel", "stills", "--out", "a b")


def test_the_jobs_nodes_are_used(data: dict[str, Any]) -> None:
    site = validate(Site, data)
    assert "--nodes=3" in compose(site, "stills", STEP, environ={"SLURM_JOB_NUM_NODES": "3"}).words
    assert "--nodes=1" in compose(site, "report", STEP, environ={"SLURM_JOB_NUM_NODES": "3"}).words
    few = {"SLURM_JOB_NUM_NODES": "3", "EXAFEL_REHEARSAL_RANKS_PER_NODE": "1"}
    assert "--ntasks=3" in compose(site, "stills", STEP, environ=few).words
    assert allocated_nodes({}) is None


def test_on_one_machine_the_command_is_left_as_it_is() -> None:
    local = load_site("local")
    assert compose(local, "stills", STEP, environ={}).words == STEP
    assert compose(local, "stills", STEP, ranks=2, environ={}).words == (*STEP[:-2], "--ranks", "2")


def test_the_command_prints_what_it_would_do(capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--facility", "slurm", "--step", "report", "--dry-run", "--", "exafel", "report"]
    assert exafel(["launch", *options]) == 0
    assert capfd.readouterr().out.startswith("srun --nodes=1 --ntasks=1 ")
    assert exafel(["launch", "--facility", "slurm", "--environment", "x", "--dry-run", "--", "exafel"]) == 2
    assert capfd.readouterr().err == "exafel: slurm: no environment 'x', but venv\n"


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "absent")
    assert exafel(["launch", "--facility", "local", "--", absent]) == 2
    assert capfd.readouterr().err == f"exafel: {absent}: no such program\n"
