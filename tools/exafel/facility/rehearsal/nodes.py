"""A virtual node: a slurmd in name spaces of its own, with its own host name and node-local disks."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from exafel.facility.rehearsal.shape import Shape, VirtualNode

# In memory, and taken only as far as it is written.
DISK_SIZE = "2g"


def boot_command(node: VirtualNode, shape: Shape, keep: tuple[Path, ...]) -> list[str]:
    """Command that becomes the node's slurmd."""
    script = "\n".join(["set -e", f"hostname {node.name}", *_disks(shape, node, keep), *_slurm_of(shape, node)])
    words = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", script]
    return ["setpriv", "--pdeathsig", "KILL", *words]  # should the rehearsal be killed, its nodes end with it


def local_disks(shape: Shape) -> list[Path]:
    """Folders that are a node's own, without the user's name at their ends."""
    found = [Path(name.split("$")[0]) for name in shape.site.file_systems.node_local]
    return list(dict.fromkeys(found))


def _disks(shape: Shape, node: VirtualNode, keep: tuple[Path, ...]) -> list[str]:
    """Mount a fresh disk on every node-local folder, and bring back what all nodes are to see."""
    lines = [f"saved={shape.folder}/saved/{node.name}", 'mkdir -p "$saved"']
    kept: list[tuple[str, Path]] = []
    for disk in local_disks(shape):
        for path in keep:
            if path.is_relative_to(disk):
                name = f"$saved/{len(kept)}"
                lines += [f'mkdir -p "{name}"', f'mount --bind {shlex.quote(str(path))} "{name}"']
                kept.append((name, path))
    for disk in local_disks(shape):
        # A folder that is not on this machine is made on a fresh disk above it: nothing of the machine is changed.
        target = disk if disk.is_dir() else next(item for item in disk.parents if item.is_dir())
        lines += [f"mount -t tmpfs -o mode=1777,size={DISK_SIZE} node {target}", f"mkdir -p -m 1777 {disk}"]
    for name, path in kept:
        quoted = shlex.quote(str(path))
        lines += [f"mkdir -p {quoted}", f'mount --bind "{name}" {quoted}']
    return lines


def _slurm_of(shape: Shape, node: VirtualNode) -> list[str]:
    # Programs that drop SLURM_CONF from the environment (Snakemake's slurm-jobstep) read /etc/slurm.
    return [f"mount --bind {shape.configuration} /etc/slurm", f"exec slurmd -D -N {node.name}"]


def node_processes(pid: int) -> list[int]:
    """Processes in the mount name space of a node whose slurmd is `pid`."""
    try:
        own, space = Path("/proc/self/ns/mnt").readlink(), Path(f"/proc/{pid}/ns/mnt").readlink()
    except OSError:
        return []
    if own == space:
        return []  # it has not left ours yet
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "ns" / "mnt").readlink() == space:
                found.append(int(entry.name))
    return found


def end_node(process: subprocess.Popen[bytes]) -> None:
    """Kill every process of a node."""
    for _ in range(20):  # those that were born meanwhile, too
        alive = [pid for pid in node_processes(process.pid) if pid != process.pid]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not alive:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
