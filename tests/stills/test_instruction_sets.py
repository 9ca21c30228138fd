"""A real shot gives the same bits whatever instruction set the kernels use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "config" / "examples"

PROGRAM = """
import hashlib, sys
from exafel import _kernels
from pathlib import Path
from exafel.config.workflow import load_workflow_config
from exafel.io.frames import open_frames
from exafel.stills.reader import ShotReader
from exafel.stills.shot import process_shot

config = load_workflow_config(Path(sys.argv[1])).stills
result = process_shot(ShotReader(open_frames([Path(sys.argv[2])]), config.geometry), 1, config)
table = result.lattices[0].integrated
print(_kernels.isa(), len(result.spots), len(table))
for columns in (result.spots, table):
    for name in sorted(columns):
        print(name, columns[name].dtype, hashlib.sha256(columns[name].tobytes()).hexdigest())
"""


def process(isa: str, *arguments: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "EXAFEL_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.data
def test_spots_and_intensities_of_a_real_shot(shared_data: Path) -> None:
    arguments = (str(EXAMPLES / "cspad_thermolysin.yaml"), str(shared_data / "cspad_thermolysin"))
    baseline, *others = [process(isa, *arguments) for isa in ("baseline", "avx2", "avx512")]
    isa, n_spots, n_integrated = baseline[0].split()
    assert isa == "baseline"
    assert min(int(n_spots), int(n_integrated)) > 50
    for other in others:
        assert other[0].split()[1:] == [n_spots, n_integrated]
        assert other[1:] == baseline[1:]
