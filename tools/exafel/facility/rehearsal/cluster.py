"""Starting and stopping the real Slurm of a rehearsal: munge, MariaDB, slurmdbd, slurmctld, and a slurmd a node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from exafel.errors import ConfigError, EngineError
from exafel.facility.launch import REHEARSAL_RANKS
from exafel.facility.rehearsal.conf import accounting_commands, gres_conf, slurm_conf, slurmdbd_conf, submit_lua
from exafel.facility.rehearsal.nodes import boot_command, end_node, node_processes
from exafel.facility.rehearsal.shape import Shape, VirtualNode, make_shape
from exafel.facility.site import Site

PROGRAMS = (
    "munged",
    "mariadbd",
    "mariadb-install-db",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sacctmgr",
    "unshare",
    "setpriv",
)
PACKAGES = (
    "slurmctld slurmd slurmdbd slurm-client slurm-wlm-basic-plugins munge mariadb-server openmpi-bin libpmix-dev zstd"
)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's Open MPI over loopback, which it leaves out by itself; and no daemons of its own.
_MPI = {
    "OMPI_MCA_btl": "self,tcp",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_osc": "^ucx",
    "MPI4PY_RC_THREAD_LEVEL": "serialized",  # its one-sided calls over TCP know no threads
    "PMIX_MCA_gds": "hash",
    "PMIX_MCA_psec": "native",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def missing() -> list[str]:
    """Programs of a rehearsal that this machine lacks; "root" where we are not root."""
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return absent if os.geteuid() == 0 else ["root", *absent]


class Cluster:
    """A real Slurm on this machine, shaped like a facility; a context manager, which leaves nothing running.

    Parameters
    ----------
    site
        The facility.
    nodes
        Virtual nodes of each kind.
    ranks_a_node
        Most ranks that `exafel launch` starts on a virtual node: this machine's few cores play all of them.
    keep
        Folders under a node's private ones (/tmp) that all nodes are to see all the same.

    Raises
    ------
    ConfigError
        The facility has no Slurm, or this machine cannot run one; what is missing is named.
    EngineError
        A part of it did not start; the end of its log is in the message.
    """

    def __init__(self, site: Site, *, nodes: int = 4, ranks_a_node: int = 1, keep: tuple[Path, ...] = ()) -> None:
        absent = missing()
        if absent:
            raise ConfigError(
                f"cannot rehearse here without {', '.join(absent)}", hint=f"as root; Debian: apt-get install {PACKAGES}"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="exafel-rehearsal-", dir="/var/tmp"))
        try:
            self.shape: Shape = make_shape(site, self.folder, nodes)
        except ConfigError:
            self.folder.rmdir()
            raise
        self.keep = keep
        self.environment: Mapping[str, str] = {
            **os.environ,
            **_MPI,
            "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}",
            "SLURM_CONF": str(self.shape.configuration / "slurm.conf"),
            "USER": os.environ.get("USER", "root"),
            REHEARSAL_RANKS: str(ranks_a_node),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command of Slurm on the login node and return what it prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=120)
        if check and done.returncode != 0:
            raise EngineError(f"{' '.join(words)}: {' '.join(done.stderr.split())}")
        return done.stdout

    def _start(self) -> None:
        self._write_files()
        folder, socket = self.folder, self.shape.munge_socket
        munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge/key", f"--socket={socket}"]
        munge += [f"--pid-file={folder}/run/munged.pid", f"--log-file={folder}/log/munged.log"]
        self._daemon("munged", [*munge, f"--seed-file={folder}/munge/seed", "--num-threads=4"])
        self._wait("munged", 10, lambda: self._works("munge", "-n", "-S", str(socket)))
        self._start_database()
        self._daemon("slurmdbd", ["slurmdbd", "-D"])
        self._wait("slurmdbd", 30, lambda: self._works("sacctmgr", "-n", "show", "cluster"))
        for commands in accounting_commands(self.shape):
            self._account(commands)
        self._daemon("slurmctld", ["slurmctld", "-D"])
        self._wait("slurmctld", 30, lambda: self._works("scontrol", "ping"))
        for node in self.shape.nodes:
            self.boot(node)
        self._wait("slurmctld", 60, lambda: set(self.states().values()) == {"idle"})

    def _start_database(self) -> None:
        folder = self.folder
        shutil.chown(folder / "db", "mysql", "mysql")
        data, socket = f"--datadir={folder}/db", f"{folder}/db/socket"
        install = ["mariadb-install-db", "--no-defaults", "--user=mysql", data, "--skip-test-db"]
        install += ["--auth-root-authentication-method=normal"]
        with (folder / "log" / "mariadb-install.log").open("wb") as log:
            subprocess.run(install, env=self.environment, stdout=log, stderr=log, check=True, timeout=120)
        options = ["--no-defaults", "--user=mysql", data, "--bind-address=127.0.0.1", f"--socket={socket}"]
        options += [f"--port={self.shape.port + 2}", f"--pid-file={folder}/db/pid", "--skip-log-bin"]
        # A data base that lives for minutes need not outlive a crash of the machine.
        options += ["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF"]
        options += ["--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-lock-wait-timeout=900"]
        as_mysql = ["setpriv", "--reuid=mysql", "--regid=mysql", "--init-groups", "--pdeathsig", "KILL"]
        self._daemon("mariadbd", [*as_mysql, "mariadbd", *options])
        client = ["mariadb", "--no-defaults", "-S", socket, "-e"]
        self._wait("mariadbd", 60, lambda: self._works(*client, "select 1"))
        user = "create user slurm@{0} identified by 'slurm'; grant all on slurm_acct_db.* to slurm@{0};"
        self.run(*client, user.format("127.0.0.1") + user.format("localhost"))

    def _account(self, commands: list[str]) -> None:
        text = "".join(f"{line}\n" for line in commands)
        done = subprocess.run(
            ["sacctmgr", "-i"], input=text, env=self.environment, capture_output=True, text=True, check=False
        )
        faults = [line for line in (done.stdout + done.stderr).splitlines() if "error" in line]
        if faults:
            raise EngineError(f"sacctmgr: {faults[0]}")

    def _write_files(self) -> None:
        shape = self.shape
        for name in ("etc", "log", "run", "state", "spool", "munge", "db", "dev"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for number in range(max(kind.gpus for kind in shape.site.nodes.values())):
            os.mknod(self.folder / "dev" / f"gpu{number}", 0o020666, os.makedev(1, 3))
        texts = {"slurm.conf": slurm_conf, "gres.conf": gres_conf, "slurmdbd.conf": slurmdbd_conf}
        for name, text in {**texts, "job_submit.lua": submit_lua}.items():
            (shape.configuration / name).write_text(text(shape))
        (shape.configuration / "slurmdbd.conf").chmod(0o600)

    def _daemon(self, name: str, words: list[str]) -> None:
        # Should this process be killed, its daemons end with it.
        words = ["setpriv", "--pdeathsig", "KILL", *words]
        with (self.folder / "log" / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._daemons.append(process)

    def _works(self, *words: str) -> bool:
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False, timeout=60)
        return done.returncode == 0

    def _wait(self, name: str, seconds: float, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or any(item.poll() is not None for item in self._daemons):
                logs = [path for path in (self.folder / "log").glob(f"{name}*") if path.stat().st_size]
                said = logs[-1].read_text(errors="replace").splitlines()[-3:] if logs else []
                raise EngineError(f"{name} did not start: {' / '.join(said)}", where=self.folder / "log")
            time.sleep(0.1)

    def states(self) -> dict[str, str]:
        """State of every virtual node, as `sinfo` has it."""
        rows = self.run("sinfo", "-h", "-N", "-o", "%N %t").split("\n")
        return dict(row.split() for row in rows if row)

    def boot(self, node: VirtualNode) -> None:
        """Start a virtual node: a slurmd with a host name and node-local disks of its own."""
        (self.folder / "spool" / node.name).mkdir(exist_ok=True)
        words = boot_command(node, self.shape, self.keep)
        with (self.folder / "log" / f"slurmd.{node.name}.out").open("ab") as log:
            self._nodes[node.name] = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def find(self, name: str) -> VirtualNode:
        """Return a virtual node by its name."""
        return next(node for node in self.shape.nodes if node.name == name)

    def crash(self, name: str) -> None:
        """Take a node's power away: every process on it ends at once."""
        end_node(self._nodes.pop(name))

    def on_node(self, name: str, script: str, *, check: bool = True) -> str:
        """Run a line of shell on a node, as root there, and return what it prints."""
        pid = self._nodes[name].pid
        return self.run("nsenter", f"--target={pid}", "--mount", "--uts", "sh", "-c", script, check=check)

    def fill_disk(self, name: str, disk: Path) -> None:
        """Leave no room on a node's own disk."""
        self.on_node(name, f"mount -t tmpfs -o size=64k full {disk} && head -c 64k /dev/zero > {disk}/full || true")

    def break_disk(self, name: str, disk: Path) -> None:
        """Make a node's own disk one that cannot be written, as broken ones become."""
        self.on_node(name, f"mount -t tmpfs -o ro broken {disk}")

    def stop(self) -> None:
        """End every job, node and daemon, and remove the folder."""
        with suppress(EngineError, subprocess.TimeoutExpired, OSError):
            self.run("scancel", "--user=root", check=False)
            time.sleep(0.5)
        for process in self._nodes.values():
            end_node(process)
        self._nodes.clear()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Processes on all virtual nodes."""
        return [pid for process in self._nodes.values() for pid in node_processes(process.pid)]
