"""What a reconstruction knows between two generations, and its file: small, without images, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import AnyArray, Float32Array, FloatArray, IntArray
from exafel.errors import InputError
from exafel.io.files import atomic_write
from exafel.spi.rotations import random_quaternions

_FORMAT = 1
_COLUMNS = ("quaternions", "weights", "classes", "score", "scale")
_PLAIN = ("d_angstrom", "generation", "age", "start", "stage", "stage_generation", "tries", "done")
_ARRAYS = ("models", "turn", "kept_models")


@dataclass(frozen=True, eq=False)
class Assignments:
    """Orientation, class, weight, score and intensity scale of every image.

    Parameters
    ----------
    quaternions
        Shape (images, k, 4): one orientation, or k where assignment is soft.
    weights
        Shape (images, k), each row sums to 1.
    classes
        Shape (images, k).
    score, scale
        Of the best, shape (images,).
    """

    quaternions: FloatArray
    weights: FloatArray
    classes: IntArray
    score: FloatArray
    scale: FloatArray

    @staticmethod
    def random(n: int, n_classes: int, rng: np.random.Generator) -> Assignments:
        """Random orientations and classes: they break every symmetry of the start."""
        return Assignments(
            random_quaternions(n, rng)[:, None, :],
            np.ones((n, 1)),
            rng.integers(n_classes, size=(n, 1)),
            np.zeros(n),
            np.ones(n),
        )

    @staticmethod
    def assembled(parts: Sequence[tuple[IntArray, Assignments]]) -> Assignments:
        """Put parts together, each with the numbers of its images."""
        n = sum(len(rows) for rows, _ in parts)
        columns = [getattr(parts[0][1], name) for name in _COLUMNS]
        arrays = [np.empty((n, *column.shape[1:]), dtype=column.dtype) for column in columns]
        for rows, part in parts:
            for array, name in zip(arrays, _COLUMNS, strict=True):
                array[rows] = getattr(part, name)
        return Assignments(*arrays)

    def rows(self, rows: IntArray) -> Assignments:
        """Those of some images."""
        return Assignments(*(getattr(self, name)[rows] for name in _COLUMNS))

    def hardened(self, quaternions: FloatArray | None = None, score: FloatArray | None = None) -> Assignments:
        """One orientation an image: the best, or another one with its score."""
        q = self.best if quaternions is None else quaternions
        score = self.score if score is None else score
        return Assignments(q[:, None, :], np.ones((len(q), 1)), self.classes[:, :1], score, self.scale)

    def candidate(self, k: int) -> Assignments:
        """Only the k-th orientation of every image."""
        pick = slice(k, k + 1)
        ones = np.ones((len(self.score), 1))
        return Assignments(self.quaternions[:, pick], ones, self.classes[:, pick], self.score, self.scale)

    def replaced(self, rows: IntArray, other: Assignments) -> Assignments:
        """Some images, given by their numbers, as they are in another, which has just these."""
        if self.weights.shape[1] != other.weights.shape[1]:  # one is soft and one is not
            return self.hardened().replaced(rows, other.hardened())
        columns = [getattr(self, name).copy() for name in _COLUMNS]
        for column, name in zip(columns, _COLUMNS, strict=True):
            column[rows] = getattr(other, name)
        return Assignments(*columns)

    def with_scale(self, scale: FloatArray) -> Assignments:
        """The same on other intensity scales."""
        return replace(self, scale=scale)

    def moved(self, rows: IntArray, kind: int, quaternions: FloatArray) -> Assignments:
        """Some images put into a class, in given orientations."""
        q, classes, weights = self.quaternions.copy(), self.classes.copy(), self.weights.copy()
        q[rows], classes[rows] = quaternions[:, None, :], kind
        weights[rows] = 1 / weights.shape[1]
        return replace(self, quaternions=q, classes=classes, weights=weights)

    @property
    def best(self) -> FloatArray:
        """Best orientation of every image, shape (images, 4)."""
        return self.quaternions[:, 0]

    @property
    def best_class(self) -> IntArray:
        """Best class of every image."""
        return self.classes[:, 0]


@dataclass(frozen=True, eq=False)
class State:
    """A reconstruction after a generation.

    Parameters
    ----------
    generation
        Generations done.
    age
        Generations since the random start that it goes back to.
    stage, stage_generation, tries
        Number of the resolution, generations done at it, and how often it was given more.
    start
        Number of the random start, while there are several.
    d_angstrom
        The resolution.
    models
        Autocorrelations by model (half · classes + class), shape (models, m, m, m).
    turn
        Rotation of the second half's frame into the first's, and the second's class, shape (classes, 5); None before
        it is known.
    kept, kept_models
        Of each half, the best of the starts so far.
    history
        One record a generation.
    """

    assignments: Assignments
    d_angstrom: float
    generation: int = 0
    age: int = 0
    start: int = 0
    stage: int = 0
    stage_generation: int = 0
    tries: int = 0
    done: bool = False
    models: Float32Array | None = None
    turn: FloatArray | None = None
    kept: Assignments | None = None
    kept_models: Float32Array | None = None
    history: tuple[dict[str, Any], ...] = field(default=())

    def with_(self, **changes: Any) -> State:
        """Return it with some changes."""
        return replace(self, **changes)


def save_state(path: Path, state: State) -> None:
    """Write a state as an ``.npz`` file without pickles."""
    arrays: dict[str, AnyArray] = {name: getattr(state.assignments, name) for name in _COLUMNS}
    if state.kept is not None:
        arrays.update({f"kept_{name}": getattr(state.kept, name) for name in _COLUMNS})
    for name in _ARRAYS:
        if (value := getattr(state, name)) is not None:
            arrays[name] = value
    plain = {key: getattr(state, key) for key in _PLAIN}
    text = json.dumps({"format": _FORMAT, **plain, "history": state.history})
    with atomic_write(path) as stream:
        np.savez(stream, **{"record": np.frombuffer(text.encode(), dtype=np.uint8), **arrays})  # type: ignore[arg-type] # its stub thinks of allow_pickle


def load_state(path: Path) -> State:
    """Read a state.

    Raises
    ------
    InputError
        The file is damaged or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        record = json.loads(arrays.pop("record").tobytes())
        if record.pop("format") != _FORMAT:
            raise ValueError("another version wrote it")
        assignments = Assignments(*(arrays[name] for name in _COLUMNS))
        kept = Assignments(*(arrays[f"kept_{name}"] for name in _COLUMNS)) if "kept_score" in arrays else None
        record["history"] = tuple(record["history"])
        record.update({name: arrays.get(name) for name in _ARRAYS})
        return State(assignments, kept=kept, **record)
    except (OSError, KeyError, ValueError, TypeError, EOFError) as error:
        hint = "delete the folder and run again"
        raise InputError(f"not a checkpoint of a reconstruction: {error}", where=path, hint=hint) from error
