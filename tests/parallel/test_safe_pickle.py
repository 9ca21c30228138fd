"""Pickles from disk: our data classes and arrays come back, nothing that runs code does."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exafel.errors import InputError
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam
from exafel.io.reflections import Flag, ReflectionTable
from exafel.parallel import safe_pickle
from exafel.stills.shot import Outcome, ShotResult


def test_results_come_back() -> None:
    table = ReflectionTable({"d": np.arange(3.0), "miller_index": np.ones((3, 3), dtype=np.int32)}, {0: "abc"})
    beam = Beam(1.5)
    result = ShotResult(4, ImageRef(Path("a.h5"), 2), Outcome.NOT_INDEXED, "because", spots=table, cpu_s={"index": 0.5})
    again, beam_again, flag = safe_pickle.loads(pickle.dumps((result, beam, Flag.STRONG)), where="x")
    assert (again.number, again.image, again.outcome, again.reason) == (4, result.image, result.outcome, "because")
    np.testing.assert_array_equal(again.spots["d"], table["d"])
    np.testing.assert_array_equal(beam_again.s0, beam.s0)
    assert again.spots.identifiers == {0: "abc"}
    assert flag is Flag.STRONG
    assert safe_pickle.loads(pickle.dumps(np.float64(2.5)), where="x") == 2.5


def test_members_of_enumerations_come_back_as_older_pythons_wrote_them() -> None:
    assert safe_pickle.loads(pickle.dumps(Evil(getattr, Outcome, "NO_HIT")), where="x") is Outcome.NO_HIT


class Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call, self.arguments


def indirect_system() -> bytes:
    """Reaches os.system through a module of this package, by a dotted name (protocol 4)."""
    return b"\x80\x04\x8c\x18exafel.steps.provenance\x94\x8c\x11subprocess.getoutput\x94\x93\x8c\x02id\x85R."


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Evil(os.system, "true")),
        pickle.dumps(Evil(eval, "1 + 1")),
        pickle.dumps(Evil(getattr, "abc", "upper")),
        pickle.dumps(Evil(getattr, Outcome, "__class__")),
        pickle.dumps(Evil(getattr, Beam, "reciprocal")),
        pickle.dumps(safe_pickle.loads),
        indirect_system(),
        b"\x80\x04not a pickle",
        b"",
    ],
)
def test_everything_else_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.spool: not a pickle of results"):
        safe_pickle.loads(data, where="x.spool")
