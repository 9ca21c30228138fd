"""Running other programs: output in the log, a clean environment, nothing left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from exafel.engines.programs import ask, environment, follow, last_line
from exafel.errors import EngineError


def test_output_and_errors_go_to_the_log_and_the_caller_looks_at_the_end(tmp_path: Path) -> None:
    code = "import os, sys; print('said'); print('complained', file=sys.stderr); open('made', 'w'); sys.exit(7)"
    looks: list[bool] = []
    log = tmp_path / "logs" / "program.log"
    exit_code = follow(
        [sys.executable, "-c", code], folder=tmp_path, log=log, look=lambda: looks.append((tmp_path / "made").exists())
    )
    assert exit_code == 7
    assert set(log.read_text().split()) == {"said", "complained"}
    assert looks[-1], "it is looked at once more after its end"


def test_it_does_not_outlive_a_caller_that_gives_up(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    pid = tmp_path / "pid"

    def give_up() -> None:
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        follow([sys.executable, "-c", code], folder=tmp_path, log=tmp_path / "log", look=give_up)
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_child_does_not_take_itself_for_an_mpi_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("KEPT", "yes")
    found = environment()
    assert not any(name.startswith(("OMPI_", "PMI")) for name in found)
    assert (found["OMP_NUM_THREADS"], found["KEPT"]) == ("1", "yes")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    program = str(tmp_path / "absent")
    with pytest.raises(EngineError, match=r"absent: cannot be started: No such file"):
        ask([program])
    with pytest.raises(EngineError, match=r"absent: cannot be started: No such file"):
        follow([program], folder=tmp_path, log=tmp_path / "log", look=lambda: None)


def test_the_last_line_that_says_something() -> None:
    assert last_line("Traceback\n  at\nAbort: Could not load x\n\n") == "Abort: Could not load x"
    assert last_line("\n \n") is None
