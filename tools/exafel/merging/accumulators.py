"""Merged sums on disk, to which later lattices are added at the cost of these alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import AnyArray
from exafel.errors import InputError
from exafel.io.files import atomic_write
from exafel.merging.merge import Merged, Sums, add
from exafel.merging.totals import Totals

ACCUMULATORS_NAME = "accumulators.npz"


@dataclass(frozen=True, eq=False)
class Accumulators:
    """What a merge comes to, before anything is left out or divided.

    Parameters
    ----------
    merged
        Sums of every reflection, however few its observations.
    totals
        Sums over lattices.
    digests
        Of the lattices, sorted, unsigned integers, shape (n, 2).
    """

    merged: Merged
    totals: Totals
    digests: AnyArray

    def plus(self, other: Accumulators) -> Accumulators:
        """Accumulators of the lattices of both.

        Raises
        ------
        InputError
            A lattice is in both.
        """
        digests = np.unique(np.concatenate([self.digests, other.digests]), axis=0)
        twice = len(self.digests) + len(other.digests) - len(digests)
        if twice:
            raise InputError(f"{twice} of the lattices are in the earlier merge already", hint="give new shots only")
        return Accumulators(add(self.merged, other.merged), self.totals.plus(other.totals), digests)


def write_accumulators(path: Path, accumulators: Accumulators) -> None:
    """Write accumulators, atomically."""
    merged = accumulators.merged
    arrays: dict[str, AnyArray] = {"keys": merged.keys, "i_over_sigma": merged.i_over_sigma}
    arrays["digests"] = accumulators.digests
    for name in ("all", "odd", "even"):
        arrays |= _named(name, getattr(merged, name))
    for number, half in enumerate(merged.splits):
        arrays |= _named(f"split{number:02d}", half)
    totals = {**asdict(accumulators.totals), "cells": accumulators.totals.cells.tolist()}
    arrays["totals"] = np.frombuffer(json.dumps(totals).encode(), dtype=np.uint8)
    with atomic_write(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_accumulators(path: Path) -> Accumulators:
    """Read accumulators.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        n_splits = sum(name.startswith("split") and name.endswith("_n") for name in arrays)
        merged = Merged(
            arrays["keys"],
            _sums(arrays, "all"),
            _sums(arrays, "odd"),
            _sums(arrays, "even"),
            arrays["i_over_sigma"],
            tuple(_sums(arrays, f"split{number:02d}") for number in range(n_splits)),
        )
        return Accumulators(merged, _totals(json.loads(arrays["totals"].tobytes())), arrays["digests"])
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror or error}", where=path) from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"damaged or not accumulators of a merge: {error}", where=path) from error


def _named(name: str, sums: Sums) -> dict[str, AnyArray]:
    return {f"{name}_{field.name}": getattr(sums, field.name) for field in fields(Sums)}


def _sums(arrays: dict[str, AnyArray], name: str) -> Sums:
    return Sums(*(arrays[f"{name}_{field.name}"] for field in fields(Sums)))


def _totals(data: dict[str, Any]) -> Totals:
    reindexed = {int(number): int(count) for number, count in data["reindexed"].items()}
    return Totals(**{**data, "cells": np.array(data["cells"], dtype=np.float64), "reindexed": reindexed})


def differing_keys(first: dict[str, Any], second: dict[str, Any], ignored: Sequence[str]) -> list[str]:
    """Top-level keys in which two configurations differ, apart from some."""
    names = sorted(set(first) | set(second))
    return [name for name in names if name not in ignored and first.get(name) != second.get(name)]
