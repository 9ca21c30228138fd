"""The files and commands of a rehearsal, without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest

from exafel.cli.main import run as exafel
from exafel.errors import ConfigError
from exafel.facility.load import load_site
from exafel.facility.rehearsal import cluster
from exafel.facility.rehearsal.conf import URGENT, accounting_commands, gres_conf, slurm_conf, submit_lua
from exafel.facility.rehearsal.nodes import boot_command, local_disks
from exafel.facility.rehearsal.shape import Shape, make_shape
from exafel.facility.site import Site


@pytest.fixture
def shape(perlmutter: Site, tmp_path: Path) -> Shape:
    return make_shape(perlmutter, tmp_path, 2)


def test_every_kind_of_node_is_there_with_what_it_has(shape: Shape) -> None:
    assert [node.kind for node in shape.nodes] == ["cpu", "cpu", "gpu", "gpu"]
    assert len({node.port for node in shape.nodes}) == 4
    text = slurm_conf(shape)
    assert "Sockets=2 CoresPerSocket=64 ThreadsPerCore=2 RealMemory=480000" in text
    assert "Feature=gpu,hbm40g Gres=gpu:4" in text
    assert "PartitionName=regular_cpu Nodes=perlmutter-cpu001,perlmutter-cpu002 MaxTime=2880" in text
    assert gres_conf(shape).count("Name=gpu File=") == 2


def test_the_site_chooses_partitions_and_bounds_times(shape: Shape, frontier: Site, tmp_path: Path) -> None:
    assert '["gpu"] = "regular_gpu"' in submit_lua(shape)
    assert "{91, 120}, {183, 360}, {9472, 720}" in submit_lua(make_shape(frontier, tmp_path, 1))


def test_qos_are_made_before_they_are_named(shape: Shape) -> None:
    first, second = accounting_commands(shape)
    assert "add qos preempt Priority=5 PreemptMode=requeue GraceTime=3 MaxWall=2880" in " ".join(first)
    assert not any("Preempt=" in line for line in first)
    assert "modify qos realtime set Preempt=preempt" in second
    assert any(line.startswith(f"modify qos {URGENT} set Preempt=") for line in second)


def test_what_lies_under_a_private_folder_can_be_kept(frontier: Site, tmp_path: Path) -> None:
    shape = make_shape(frontier, tmp_path, 1)
    assert local_disks(shape) == [Path("/mnt/bb"), Path("/tmp")]
    script = boot_command(shape.nodes[0], shape, (Path("/tmp/checkout"), Path("/opt/x")))[-1]
    assert script.index("mount --bind /tmp/checkout") < script.index("mount -t tmpfs") < script.rindex("/tmp/checkout")
    assert "/opt/x" not in script


def test_what_a_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cluster, "PROGRAMS", ("absent-program",))
    assert exafel(["facility", "rehearse", "frontier", "--", "true"]) == 2
    said = capfd.readouterr().err
    assert "cannot rehearse here without" in said
    assert "absent-program (as root; Debian: apt-get install slurmctld" in said


def test_wrong_rehearsals_are_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exafel(["facility", "rehearse", "frontier", "--scenario", "flood", "--", "true"]) == 2
    assert "no scenario 'flood', but normal, preempt" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="there is no scheduler to rehearse"):
        make_shape(load_site("local"), tmp_path, 1)
