"""Choosing the communicator: MPI under a launcher, local processes where several ranks are asked for, else alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from exafel.errors import ConfigError
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.local import run_local
from exafel.parallel.mpi import MpiComm, launched_ranks

T = TypeVar("T")


def launch(function: Callable[..., T], *args: Any, ranks: int = 1, rank0: dict[str, Any] | None = None) -> T:
    """Run ``function(*args, comm)`` with as many ranks as there are to be.

    Parameters
    ----------
    function
        A module-level function whose last positional argument is the communicator.
    args
        Its other arguments; they can be pickled.
    ranks
        Local processes to start where no MPI launcher has started ranks already.
    rank0
        Keyword arguments for rank 0 alone.

    Raises
    ------
    ConfigError
        Both an MPI launcher and local processes are asked for.
    """
    if launched_ranks() > 1:
        if ranks > 1:
            raise ConfigError("--ranks is for runs without mpiexec or srun", hint="drop --ranks, or the launcher")
        comm: Communicator = MpiComm()
        return function(*args, comm, **((rank0 or {}) if comm.rank == 0 else {}))
    if ranks > 1:
        return run_local(function, ranks, *args, rank0=rank0)
    return function(*args, SerialComm(), **(rank0 or {}))
