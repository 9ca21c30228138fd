"""One pass over all integrated lattices: read, prepare, exchange, a bounded number of observations at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray, FloatArray
from exafel.config.merge import MergeConfig
from exafel.errors import NothingUsableError
from exafel.io.experiment import Experiment
from exafel.io.reflections import ReflectionTable
from exafel.merging.group import Observations, exchange, order_words
from exafel.merging.inputs import Share, read_lattices
from exafel.merging.lattices import REASONS, Lattice, Target
from exafel.merging.prepare import prepare_lattice
from exafel.merging.store import ObservationStore
from exafel.merging.table import LatticeTable, order_table, table_rows
from exafel.parallel.comm import Communicator

Prepared = tuple[Experiment, ReflectionTable, Lattice]
Watch = Callable[[int, int, bool], None]
"""Told before and after each share: its number, how many lattices this rank has accepted, whether it is done."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where this rank's lattices are, where its observations may go, and the ranks.

    Parameters
    ----------
    shares
        What this rank reads; read anew in every pass.
    folder
        This rank's own, for observations that memory does not hold.
    comm
        The ranks.
    """

    shares: Sequence[Share]
    folder: Path
    comm: Communicator


@dataclass(eq=False)
class Tally:
    """Lattices of this rank so far."""

    n_read: int = 0
    n_accepted: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class Gathered:
    """All lattices after a pass.

    Parameters
    ----------
    store
        This rank's share of the observations.
    table
        Accepted lattices of all ranks.
    n_read, reasons
        Lattices in the input, and those left out by reason, of all ranks.
    """

    store: ObservationStore
    table: LatticeTable
    n_read: int
    reasons: dict[str, int]


def _ignore(share: int, n_accepted: int, done: bool) -> None:
    pass


def prepared(
    source: Source, target: Target, config: MergeConfig, tally: Tally, watch: Watch = _ignore
) -> Iterator[Prepared]:
    """Yield this rank's accepted lattices, and count the others."""
    for number, share in enumerate(source.shares):
        watch(number, tally.n_accepted, False)
        yield from prepared_share(share, target, config, tally)
        watch(number, tally.n_accepted, True)


def prepared_share(share: Share, target: Target, config: MergeConfig, tally: Tally) -> Iterator[Prepared]:
    """Yield the accepted lattices of one share, and count the others."""
    for experiment, table in read_lattices(share, config.intensities):
        outcome = prepare_lattice(experiment, table, target, config)
        tally.n_read += 1
        if isinstance(outcome, Lattice):
            tally.n_accepted += 1
            yield experiment, table, outcome
        else:
            tally.reasons[outcome] += 1


def gather_lattices(source: Source, target: Target, config: MergeConfig, watch: Watch = _ignore) -> Gathered:
    """Read and prepare all lattices, and bring all observations of a reflection to one rank.

    Raises
    ------
    NothingUsableError
        No lattice passed the filters.
    InputError
        A file cannot be read, or a lattice is there twice.
    """
    tally = Tally()
    store = ObservationStore(source.folder, config.rows_in_memory)
    lattices = (lattice for _, _, lattice in prepared(source, target, config, tally, watch))
    digests, rows = collect(lattices, store, source.comm, config.slice_rows)
    n_read, reasons = _count(tally, source.comm)
    if not len(digests):
        raise nothing_left("no lattice passed the filters", n_read, reasons)
    table, numbers = order_table(digests, rows)
    store.number(numbers)
    return Gathered(store, table, n_read, reasons)


def collect(
    lattices: Iterator[Lattice], store: ObservationStore, comm: Communicator, slice_rows: int
) -> tuple[AnyArray, FloatArray]:
    """Bring the observations of this rank's lattices to the ranks that merge them, so many at a time.

    Lattices are numbered as they come; `exafel.merging.table.order_table` numbers them for good.

    Returns
    -------
    Digests (n, 2) and table rows of all ranks' lattices, in the order of their numbers.
    """
    digests: list[AnyArray] = []
    rows: list[FloatArray] = []
    n_before = 0
    while True:
        chunk, ended = _take(lattices, slice_rows)
        everyone = comm.allgather((*table_rows(chunk), ended))
        first = n_before + sum(len(part[0]) for part in everyone[: comm.rank])
        store.add(exchange(_observations(chunk, first), comm))
        digests.extend(part[0] for part in everyone)
        rows.extend(part[1] for part in everyone)
        n_before += sum(len(part[0]) for part in everyone)
        if all(part[2] for part in everyone):
            return np.concatenate(digests), np.concatenate(rows)


def _take(lattices: Iterator[Lattice], n_rows: int) -> tuple[list[Lattice], bool]:
    """Take lattices until they have so many observations; whether these were the last."""
    chunk: list[Lattice] = []
    n = 0
    for lattice in lattices:
        chunk.append(lattice)
        n += len(lattice.keys)
        if n >= n_rows:
            return chunk, False
    return chunk, True


def _observations(lattices: Sequence[Lattice], first: int) -> Observations:
    """Observations of lattices that are numbered from `first` on for now."""
    return Observations.concatenate(
        [
            Observations(order_words(item.keys, first + place, odd=item.odd), item.intensity, item.variance)
            for place, item in enumerate(lattices)
        ]
    )


def _count(tally: Tally, comm: Communicator) -> tuple[int, dict[str, int]]:
    counts = [tally.n_read, *(tally.reasons[name] for name in REASONS)]
    n_read, *totals = comm.allreduce_sum(np.array(counts, dtype=np.float64)).astype(int).tolist()
    return n_read, {name: count for name, count in zip(REASONS, totals, strict=True) if count}


def nothing_left(what: str, n_lattices: int, reasons: dict[str, int]) -> NothingUsableError:
    """Return the error that says that nothing is left of so many lattices, and why."""
    listed = ", ".join(f"{name} {count}" for name, count in reasons.items()) or "none left out"
    return NothingUsableError(f"{what}: of {n_lattices} lattices: {listed}")
