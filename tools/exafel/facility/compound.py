"""A compound job: many data sets side by side in one allocation, each on nodes of its own, failures kept apart."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from exafel.config.base import Model
from exafel.errors import ConfigError, ExafelError
from exafel.facility.launch import NODE_LIST
from exafel.io.files import read_json, sha256_file, write_json

_RECORD = "compound.json"
_SECONDS_BETWEEN_LOOKS = 0.2


class Record(Model):
    """What became of a member.

    `asked` is the hash of its configuration and command: a member that is done is run again only when it has changed.
    """

    state: Literal["done", "failed", "interrupted"]
    returncode: int
    nodes: tuple[str, ...]
    seconds: float
    asked: str
    log: str


@dataclass(frozen=True)
class Member:
    """One data set: its name, its configuration, its working directory and the command that processes it."""

    name: str
    config: Path
    folder: Path
    command: tuple[str, ...]

    def asked(self) -> str:
        """Hash of what is to be done."""
        text = "\0".join(self.command) + sha256_file(self.config)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Running:
    member: Member
    process: subprocess.Popen[bytes]
    nodes: tuple[str, ...]
    start: float


def make_members(configs: Sequence[Path], folder: Path, command: Sequence[str]) -> list[Member]:
    """Make a member of each configuration; ``{config}``, ``{name}`` and ``{folder}`` in the command are its own.

    Raises
    ------
    ConfigError
        A configuration is missing, or two have the same name.
    """
    members: list[Member] = []
    for config in configs:
        if not config.is_file():
            raise ConfigError("no such configuration", where=config)
        name = config.stem
        if name in {member.name for member in members}:
            raise ConfigError(
                f"two data sets are named '{name}'", where=config, hint="the file's name is the data set's"
            )
        own = folder / name
        values = {"config": str(config.absolute()), "name": name, "folder": str(own.absolute())}
        words = []
        for word in command:
            for key, value in values.items():
                word = word.replace(f"{{{key}}}", value)
            words.append(word)
        members.append(Member(name, config, own, tuple(words)))
    return members


def job_nodes(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the nodes of this job; none outside a job.

    Raises
    ------
    ExafelError
        Slurm does not answer.
    """
    names = environ.get("SLURM_JOB_NODELIST")
    if not names:
        return []
    done = subprocess.run(["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ExafelError(f"scontrol: {done.stderr.strip()}")
    return done.stdout.split()


class Compound:
    """Runs members side by side on a budget of nodes.

    Parameters
    ----------
    folder
        Where the record of members and their logs lie.
    nodes
        Names of the nodes that may be used.
    nodes_each
        Nodes of a member.
    say
        Takes a line for each member that begins, ends, or has been done before.

    Raises
    ------
    ConfigError
        A member would need more nodes than there are.
    """

    def __init__(self, folder: Path, nodes: Sequence[str], nodes_each: int, say: Callable[[str], None]) -> None:
        if nodes_each > len(nodes):
            raise ConfigError(f"a data set is to have {nodes_each} nodes, but there are {len(nodes)}")
        self.folder = folder
        self._free = list(nodes)
        self._each = nodes_each
        self._say = say
        self._running: list[_Running] = []
        self._ended = False
        path = folder / _RECORD
        known = read_json(path) if path.is_file() else {}
        self.records = {name: Record.model_validate(item) for name, item in known.items()}

    def run(self, members: Sequence[Member]) -> dict[str, Record]:
        """Run what is not done yet; SIGTERM ends the members that run, and the next run goes on with them.

        Returns
        -------
        dict
            Every member's record.
        """
        waiting = []
        for member in members:
            record = self.records.get(member.name)
            if record is not None and record.state == "done" and record.asked == member.asked():
                self._say(f"{member.name}: done before")
            else:
                waiting.append(member)
        with self._ending_on_sigterm():
            while (waiting and not self._ended) or self._running:
                while waiting and not self._ended and len(self._free) >= self._each:
                    self._begin(waiting.pop(0))
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for item in [item for item in self._running if item.process.poll() is not None]:
                    self._end(item)
        return {member.name: self.records[member.name] for member in members if member.name in self.records}

    def _begin(self, member: Member) -> None:
        nodes = tuple(self._free[: self._each])
        del self._free[: self._each]
        member.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, NODE_LIST: ",".join(nodes)}
        with self._log(member).open("ab") as log:
            try:
                process = subprocess.Popen(
                    member.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            except OSError as error:
                raise ConfigError(f"cannot start: {error.strerror}", where=member.command[0]) from error
        self._running.append(_Running(member, process, nodes, time.monotonic()))
        self._say(f"{member.name}: begins on {' '.join(nodes)}")

    def _end(self, item: _Running) -> None:
        self._running.remove(item)
        self._free += item.nodes
        code = item.process.returncode
        state: Literal["done", "failed", "interrupted"] = "done" if code == 0 else "failed"
        if code != 0 and self._ended:
            state = "interrupted"
        seconds, member = time.monotonic() - item.start, item.member
        self.records[member.name] = Record(
            state=state,
            returncode=code,
            nodes=item.nodes,
            seconds=round(seconds, 1),
            asked=member.asked(),
            log=str(self._log(member)),
        )
        write_json(self.folder / _RECORD, {name: item.model_dump(mode="json") for name, item in self.records.items()})
        self._say(f"{member.name}: {state} with {code} after {seconds:.1f} s")

    def _log(self, member: Member) -> Path:
        return member.folder / "compound.log"

    @contextmanager
    def _ending_on_sigterm(self) -> Iterator[None]:
        def end(_number: int, _frame: FrameType | None) -> None:
            self._ended = True
            for item in self._running:
                item.process.send_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
