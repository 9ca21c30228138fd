"""The communicator over local processes: several cores without MPI.

Rank 0 is the calling process; the others are started anew ("spawn", so nothing is inherited by accident) and joined by
one pipe a pair of ranks. A rank that dies closes its pipes, and the others stop with its error instead of waiting.
When rank 0 is interrupted or killed it takes the others with it, and they end what programs they run.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, TypeVar

from exafel.arrays import AnyArray, FloatArray
from exafel.errors import ExafelError
from exafel.parallel.comm import Counter, sum_in_order

T = TypeVar("T")


class RankLostError(ExafelError):
    """Another rank has ended before its time."""


class _SharedCounter:
    def __init__(self, value: Any) -> None:
        self._value = value

    def take(self, n: int = 1) -> int:
        with self._value.get_lock():
            before = int(self._value.value)
            self._value.value = before + n
        return before


class LocalComm:
    """Communicator of one rank among local processes.

    Parameters
    ----------
    rank
        Number of this rank.
    pipes
        Connection to each other rank; None at this rank's own place.
    value
        Shared integer behind `counter`.
    """

    def __init__(self, rank: int, pipes: Sequence[Connection | None], value: Any) -> None:
        self.rank = rank
        self.size = len(pipes)
        self.start_s = 0.0
        self._pipes = list(pipes)
        self._value = value

    def _send(self, to: int, value: object) -> None:
        pipe = self._pipes[to]
        assert pipe is not None
        try:
            pipe.send(value)
        except OSError as error:
            raise RankLostError(f"rank {to} has ended unexpectedly") from error

    def _receive(self, source: int) -> Any:
        pipe = self._pipes[source]
        assert pipe is not None
        try:
            return pipe.recv()
        except (EOFError, OSError) as error:
            raise RankLostError(f"rank {source} has ended unexpectedly") from error

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.allgather(None)

    def bcast(self, value: T, root: int = 0) -> T:
        """Return `root`'s value on every rank."""
        if self.rank != root:
            result: T = self._receive(root)
            return result
        for other in self._others():
            self._send(other, value)
        return value

    def gather(self, value: T, root: int = 0) -> list[T] | None:
        """Values of all ranks in rank order on `root`; None on the others."""
        if self.rank != root:
            self._send(root, value)
            return None
        return [value if other == root else self._receive(other) for other in range(self.size)]

    def allgather(self, value: T) -> list[T]:
        """Values of all ranks in rank order, on every rank."""
        gathered = self.gather(value)
        return self.bcast(gathered if gathered is not None else [])

    def alltoall(self, values: Sequence[T]) -> list[T]:
        """Send ``values[r]`` to rank r; return what every rank sent here, in rank order.

        A thread sends in rank order while this one receives in rank order: no order of full pipes can lock them.
        """
        failures: list[ExafelError] = []

        def send_all() -> None:
            try:
                for other in self._others():
                    self._send(other, values[other])
            except ExafelError as error:
                failures.append(error)

        sender = threading.Thread(target=send_all)
        sender.start()
        try:
            received = [values[other] if other == self.rank else self._receive(other) for other in range(self.size)]
        finally:
            sender.join()
        if failures:
            raise failures[0]
        return received

    def allreduce_sum(self, value: FloatArray) -> FloatArray:
        """Sum of an array over ranks, added in rank order."""
        return sum_in_order(self.allgather(value))

    def allreduce_array(self, value: AnyArray) -> AnyArray:
        """Sum of a large array over ranks in its own type: rank 0 adds them up one by one and sends the sum."""
        total = value
        if self.rank == 0:
            total = value.copy()
            for other in self._others():
                total += self._receive(other)
        else:
            self._send(0, value)
        return self.bcast(total)

    @contextmanager
    def counter(self) -> Iterator[Counter]:
        """Return a counter at 0 that all ranks share."""
        self.barrier()
        if self.rank == 0:
            self._value.value = 0
        self.barrier()
        yield _SharedCounter(self._value)
        self.barrier()

    def close(self) -> None:
        """Close this rank's ends of the pipes; closing twice does no harm."""
        for pipe in self._pipes:
            if pipe is not None:
                pipe.close()

    def _others(self) -> list[int]:
        return [other for other in range(self.size) if other != self.rank]


def run_local(function: Callable[..., T], n_ranks: int, *args: Any, rank0: dict[str, Any] | None = None) -> T:
    """Run ``function(*args, comm)`` on `n_ranks` local processes and return rank 0's result.

    Parameters
    ----------
    function
        A module-level function; the other processes import it by name.
    n_ranks
        Number of processes, this one included.
    args
        Arguments for every rank; they are pickled to the others.
    rank0
        Keyword arguments for rank 0 alone (what cannot be pickled, such as a progress bar).

    Raises
    ------
    ExafelError
        What a rank raised; `RankLostError` where a rank died without a word (killed, out of memory). Other exceptions
        of a rank are raised with its traceback in a note.
    """
    context = mp.get_context("spawn")
    value = context.Value("q", 0)
    pipes: list[list[Connection | None]] = [[None] * n_ranks for _ in range(n_ranks)]
    for low in range(n_ranks):
        for high in range(low + 1, n_ranks):
            pipes[low][high], pipes[high][low] = context.Pipe()
    children: list[tuple[BaseProcess, Connection]] = []
    for rank in range(1, n_ranks):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(function, args, rank, pipes[rank], value, theirs), daemon=True)
        with _interrupts_held_back():
            process.start()
        theirs.close()
        for pipe in pipes[rank]:
            if pipe is not None:
                pipe.close()
        children.append((process, ours))
    comm = LocalComm(0, pipes[0], value)
    try:
        result = function(*args, comm, **(rank0 or {}))
    except RankLostError as lost:
        comm.close()  # ranks that still wait for this one end too
        raise _first_error(children) or lost from None
    except BaseException:
        for child, _ in children:
            child.terminate()
        raise
    else:
        comm.close()
        error = _first_error(children)
        if error is not None:
            raise error
        return result
    finally:
        comm.close()
        for child, ours in children:
            child.join()
            ours.close()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that Ctrl-C at the terminal does not reach: rank 0 gets it, and ends them."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _first_error(children: Sequence[tuple[BaseProcess, Connection]]) -> BaseException | None:
    """Return the error that set off the end of the others: the first that is not itself about a lost rank."""
    silent = None
    for number, (process, pipe) in enumerate(children, start=1):
        try:
            error = pipe.recv()
        except EOFError:
            process.join()
            silent = silent or RankLostError(
                f"rank {number} was ended from outside (exit code {process.exitcode})",
                hint="was it out of memory? finished shots are kept: run the same command again",
            )
            continue
        if isinstance(error, BaseException) and not isinstance(error, RankLostError):
            return error
    return silent


def _child(
    function: Callable[..., object],
    args: tuple[Any, ...],
    rank: int,
    pipes: Sequence[Connection | None],
    value: Any,
    report: Connection,
) -> None:
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function(*args, LocalComm(rank, pipes, value))
    except Exception as error:
        report.send(_sendable(error, rank))
    else:
        report.send(None)
    finally:
        report.close()


def _end(number: int, _frame: object) -> NoReturn:
    """Leave through the ``finally`` clauses: a program that this rank runs must not outlive it."""
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """Stop this rank when rank 0 is killed: it would go on writing where the next run writes too."""
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _sendable(error: Exception, rank: int) -> Exception:
    """Return an error that can be pickled; one that should not happen with the traceback that pickling loses."""
    if isinstance(error, ExafelError):
        return error
    trace = f"on rank {rank}: {''.join(traceback.format_exception(error))}"
    error.add_note(trace)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    except Exception:  # whatever an exception of another package does when it is pickled
        return RuntimeError(trace)
    return error
