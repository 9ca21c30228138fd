"""How long a rank took to begin: what the launcher, the interpreter and its imports, and MPI needed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

LAUNCHED = "EXAFEL_LAUNCHED"


def process_start(stat: str, boot: float, ticks_per_s: int) -> float:
    """Seconds since the epoch at which a process began, from its ``/proc/<pid>/stat`` (proc(5)) and the time of boot.

    The 22nd field counts clock ticks since boot; the second, the program's name, may hold spaces and brackets.
    """
    fields = stat.rpartition(")")[2].split()
    return boot + int(fields[19]) / ticks_per_s


def startup_seconds(mpi_s: float = 0.0, environ: Mapping[str, str] = os.environ) -> dict[str, float]:
    """Wall seconds from the launch to this process's birth, and from its birth to now.

    Parameters
    ----------
    mpi_s
        Seconds of these that MPI took to start.

    Returns
    -------
    dict
        ``launch`` where `exafel launch` has started this rank; ``imports``, which is interpreter and imports; ``mpi``.
        Empty on systems without ``/proc``.
    """
    try:
        stat = Path("/proc/self/stat").read_text()
    except OSError:
        return {}
    now = time.time()
    born = process_start(stat, now - time.clock_gettime(time.CLOCK_BOOTTIME), os.sysconf("SC_CLK_TCK"))
    found = {"imports": round(now - born - mpi_s, 3), "mpi": round(mpi_s, 3)}
    try:
        return {"launch": round(born - float(environ[LAUNCHED]), 3), **found}
    except (KeyError, ValueError):
        return found
