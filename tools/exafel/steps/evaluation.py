"""What the steps that compare with a truth share: one rank compares, and its figures are the step's one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exafel.io.files import write_json
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import StepRequest, StepRun, StepSummary


class EvaluationSummary(StepSummary):
    """Figures of merit of `n` items."""

    n: int


EvaluationT = TypeVar("EvaluationT", bound=EvaluationSummary)


def run_evaluation(
    request: StepRequest, comm: Communicator, summary: type[EvaluationT], compare: Callable[[], EvaluationT]
) -> EvaluationT:
    """Compare on rank 0, unless it has been done; the figures go to ``evaluation.json`` and into the summary.

    Parameters
    ----------
    summary
        Kind of summary.
    compare
        Returns it.

    Raises
    ------
    ExafelError
        What `compare` raises, on every rank.
    """
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(summary)
        with step.phase("evaluate"):
            found = from_root(comm, compare)
        if comm.rank == 0:
            path = step.out / "evaluation.json"
            write_json(path, found.model_dump(mode="json"))
            step.add_container(path, "json", rows=found.n)
        return step.finish(found)
