"""How long a rank took to begin."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from exafel.parallel.startup import LAUNCHED, process_start, startup_seconds


def test_the_22nd_field_counts_ticks_since_boot() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert process_start(f"17 (a (strange) name) S {fields}", 1000.0, 2) == 1000.0 + 22 / 2


def test_a_process_knows_when_it_was_born_and_launched() -> None:
    program = "import time, json; time.sleep(0.5); from exafel.parallel.startup import startup_seconds as s"
    program += "; print(json.dumps(s()))"
    start = time.time()
    command = ["sh", "-c", 'sleep 0.3; exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, env={LAUNCHED: repr(start)}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    total = time.time() - start
    assert -0.02 <= found["launch"] <= total
    assert 0.5 <= found["imports"] <= total + 0.02
    assert found["mpi"] == 0.0


def test_without_a_launch_there_is_none() -> None:
    assert set(startup_seconds(environ={})) == {"imports", "mpi"}
    assert set(startup_seconds(environ={LAUNCHED: "soon"})) == {"imports", "mpi"}


def test_mpi_is_not_counted_as_imports() -> None:
    whole, parts = startup_seconds(environ={}), startup_seconds(100.0, environ={})
    assert parts["mpi"] == 100.0
    assert parts["imports"] == pytest.approx(whole["imports"] - 100.0, abs=0.1)
