"""Bringing a packed environment to the own disk of every node of a job: once a job, and only what is not there yet."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exafel.errors import EngineError
from exafel.facility.environments import TarballEnvironment
from exafel.facility.launch import DEPLOYED, allocated_nodes
from exafel.facility.pack import Layer, Packed, pack
from exafel.facility.site import Site
from exafel.io.files import write_json

# On each node: unpack beside the final place, then move there in one step. zstd's own checksum finds a damaged archive.
_UNPACK = r"""
set -eo pipefail
archive=$1 target=$2 keep=$3
if [ -e "$target/.complete" ]; then [ "$keep" = keep ] || rm -f "$archive"; exit 0; fi
part=$(mktemp -d "$target.XXXXXX" 2>&1) || { echo "$(hostname): $part" >&2; exit 1; }
end() { code=$?; rm -rf "$part"; [ "$keep" = keep ] || rm -f "$archive"; exit $code; }
trap end EXIT
said=$({ zstd -dcq "$archive" | tar -xf - -C "$part"; } 2>&1) ||
  { echo "$(hostname): ${said%%$'\n'*}" >&2; exit 1; }
if [ -d "$part/base/bin" ]; then
  printf 'home = %s/base/bin\ninclude-system-site-packages = false\n' "$target" > "$part/pyvenv.cfg"
fi
touch "$part/.complete"
chmod 755 "$part"
mv -T "$part" "$target" 2> /dev/null || [ -e "$target/.complete" ]
"""
SUBFOLDER = "exafel-env"


@dataclass
class Deployment:
    """How an environment went to the nodes.

    Parameters
    ----------
    root
        Folder that it is in on every node, or on the shared file system.
    path
        The environment: what EXAFEL_ENV is set to.
    nodes
        Nodes of the job; 1 outside a job.
    skipped
        Whether everything was there already.
    seconds
        Wall time by phase.
    warnings
        What did not go as it should, one line each.
    """

    root: str = ""
    path: str = ""
    nodes: int = 1
    skipped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the wall time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


class DeployError(EngineError):
    """A disk of a node cannot take the environment."""


def deploy(packed: Packed, folder: Path, kind: TarballEnvironment) -> Deployment:
    """Bring an environment to the nodes of this job, or to this machine outside a job.

    The node-local folders are tried in turn; where sbcast fails, every node reads the archive itself; where no disk of
    some node can take it, it is unpacked once on the shared file system, which is slow but loses nothing.

    Parameters
    ----------
    packed, folder
        The environment, and the folder of its archives.
    kind
        Where it may go.

    Raises
    ------
    EngineError
        Not even the shared file system can take it.
    """
    done = Deployment(nodes=allocated_nodes() or 1)
    for name in kind.node_local:
        root = Path(os.path.expandvars(name)) / SUBFOLDER
        try:
            _to_nodes(packed, folder, root, kind, done)
        except DeployError as error:
            done.warnings.append(error.what)
            continue
        return _record(done, root, packed, folder)
    root = Path(os.path.expandvars(kind.shared)).absolute()
    done.warnings.append(f"no disk of every node could take the environment; it is in {root}, and start-up is slow")
    with done.phase("shared"):
        root.mkdir(parents=True, exist_ok=True)
        for layer in packed.layers:
            _run(["bash", "-c", _UNPACK, "bash", str(folder / layer.archive), str(root / layer.name), "keep"])
    return _record(done, root, packed, folder)


def _to_nodes(packed: Packed, folder: Path, root: Path, kind: TarballEnvironment, done: Deployment) -> None:
    with done.phase("look"):
        absent = [layer for layer in packed.layers if _absent(root / layer.name)]
    done.skipped = not absent
    for layer in absent:
        copy = root / layer.archive
        with done.phase("sbcast"):
            sent = _broadcast(folder / layer.archive, copy, kind, done)
        with done.phase("unpack"):
            words = [str(copy if sent else folder / layer.archive), str(root / layer.name), "drop" if sent else "keep"]
            _run([*_on_every_node(), "bash", "-c", _UNPACK, "bash", *words])


def _absent(target: Path) -> bool:
    """Whether a node lacks a layer; makes the folder that it goes to.

    Raises
    ------
    DeployError
        A node has no such disk.
    """
    where = shlex.quote(str(target.parent))
    writable = f"mkdir -p {where} 2> /dev/null && [ -w {where} ]"
    script = f'{writable} || {{ echo "$(hostname): cannot write to {where}" >&2; exit 1; }}\n'
    script += f"[ -e {shlex.quote(str(target))}/.complete ] || echo absent"
    return "absent" in _run([*_on_every_node(), "sh", "-c", script])


def _broadcast(archive: Path, copy: Path, kind: TarballEnvironment, done: Deployment) -> bool:
    """Send an archive to every node; False where each is to read it itself."""
    if allocated_nodes() is None:
        return False
    options = [f"--compress={kind.compress}"] if kind.compress else []
    try:
        _run(["sbcast", "--force", *options, str(archive), str(copy)])
    except DeployError as error:
        done.warnings.append(f"sbcast failed ({error.what}); every node reads the archive itself")
        return False
    return True


def _on_every_node(environ: Mapping[str, str] = os.environ) -> list[str]:
    nodes = allocated_nodes(environ)
    if nodes is None:
        return []
    count = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
    return ["srun", *count, "--overlap", "--mem=0", "--mpi=none", "--kill-on-bad-exit=0"]


def _run(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise EngineError("no such program", where=words[0]) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise DeployError(said[0].strip() if said else f"{words[0]} ended with {done.returncode}")
    return done.stdout


def _record(done: Deployment, root: Path, packed: Packed, folder: Path) -> Deployment:
    done.root, done.path = str(root), str(root / packed.code.name)
    name = os.environ.get("SLURM_JOB_ID", "here")
    write_json(folder / "deployed" / f"{name}.json", {"job": name, **vars(done)})
    return done


def say(done: Deployment, layers: tuple[Layer, ...]) -> None:
    """Say on standard error how it went."""
    for warning in done.warnings:
        sys.stderr.write(f"exafel: {warning}\n")
    total, phases = sum(done.seconds.values()), ", ".join(f"{name} {value:.2f}" for name, value in done.seconds.items())
    what = " ".join(layer.name for layer in layers)
    verb = "is there already" if done.skipped else "is there"
    sys.stderr.write(f"environment {what} {verb}: {done.nodes} nodes, {done.root}, {total:.2f} s ({phases})\n")


def deploy_for(site: Site) -> None:
    """Bring the facility's environment to the nodes of this job, where it is a tarball, and set EXAFEL_ENV to it."""
    kind = site.environments[site.environment]
    if isinstance(kind, TarballEnvironment) and not os.environ.get(DEPLOYED):
        folder = Path(os.path.expandvars(kind.archive)).absolute()
        packed, _ = pack(folder)
        done = deploy(packed, folder, kind)
        say(done, packed.layers)
        os.environ[DEPLOYED] = done.path
