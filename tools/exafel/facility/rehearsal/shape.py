"""A facility in small: which virtual nodes play it, and where on this machine its parts lie."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from exafel.errors import ConfigError, ExafelError
from exafel.facility.site import NodeKind, Site, SlurmScheduler

_DAEMON_PORTS = 3


@dataclass(frozen=True)
class VirtualNode:
    """One virtual node: its host name, its kind and the port of its slurmd."""

    name: str
    kind: str
    port: int


@dataclass(frozen=True)
class Shape:
    """What the configuration files of a rehearsal are made from.

    Parameters
    ----------
    site, scheduler
        The facility.
    folder
        Where everything of the rehearsal lies.
    nodes
        The virtual nodes.
    port
        First of the ports of slurmctld, slurmdbd and MariaDB.
    """

    site: Site
    scheduler: SlurmScheduler
    folder: Path
    nodes: tuple[VirtualNode, ...]
    port: int

    @property
    def configuration(self) -> Path:
        """Folder that plays /etc/slurm."""
        return self.folder / "etc"

    @property
    def munge_socket(self) -> Path:
        """Socket of the rehearsal's own munge."""
        return self.folder / "run" / "munge.sock"

    def of_kind(self, kind: str) -> list[VirtualNode]:
        """Virtual nodes of one kind."""
        return [node for node in self.nodes if node.kind == kind]

    def kind(self, node: VirtualNode) -> NodeKind:
        """What a virtual node claims to have."""
        return self.site.nodes[node.kind]


def make_shape(site: Site, folder: Path, nodes_a_kind: int) -> Shape:
    """Lay a rehearsal out.

    Raises
    ------
    ConfigError
        The facility has no Slurm.
    """
    if not isinstance(site.scheduler, SlurmScheduler):
        raise ConfigError("there is no scheduler to rehearse", where=site.facility)
    names = [
        (f"{site.facility}-{kind}{number:03d}", kind)
        for kind, shape in site.nodes.items()
        for number in range(1, 1 + min(nodes_a_kind, shape.count))
    ]
    port = _free_ports(_DAEMON_PORTS + len(names))
    nodes = tuple(VirtualNode(name, kind, port + _DAEMON_PORTS + i) for i, (name, kind) in enumerate(names))
    return Shape(site, site.scheduler, folder, nodes, port)


def _free_ports(count: int) -> int:
    """Return the first of so many free ports in a row."""
    for start in range(17000, 32000, 50):
        probes = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", start + offset))
        except OSError:
            continue
        else:
            return start
        finally:
            for probe in probes:
                probe.close()
    raise ExafelError(f"no {count} free ports in a row between 17000 and 32000")
