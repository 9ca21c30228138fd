"""Write one self-contained page on what was done to one data set, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from exafel.config.report import ReportConfig
from exafel.io.files import atomic_write, write_json
from exafel.monitor.report.build import build_sections
from exafel.monitor.report.page import numbers_of, render_page
from exafel.monitor.report.trial import find_steps, read_trial
from exafel.parallel.comm import Communicator, from_root
from exafel.steps.base import QUIET, Hooks, StepRequest, StepRun, StepSummary

STEP = "report"
PAGE_NAME = "report.html"
NUMBERS_NAME = "report.json"


class Summary(StepSummary):
    """What the report shows."""

    page: str = Field(description="The page.")
    sections: tuple[str, ...] = Field(description="Sections of the page.")
    absent: tuple[str, ...] = Field(description="Steps that the report would show and that have not finished.")
    size_bytes: int = Field(description="Size of the page.")


def request(config: ReportConfig, results: Sequence[Path], out: Path) -> StepRequest:
    """Say what is to be shown.

    Parameters
    ----------
    config
        Parameters.
    results
        Folders of steps (``stills``, ``merge``, ...), or folders that hold them.
    out
        Folder for ``report.html`` and ``report.json``.

    Raises
    ------
    InputError
        A folder does not exist, or is none of these.
    """
    return StepRequest(STEP, config, {name: (path,) for name, path in find_steps(results).items()}, out)


def run(request: StepRequest, comm: Communicator, hooks: Hooks = QUIET) -> Summary:  # noqa: ARG001 - every step's signature
    """Write the page, on rank 0.

    Raises
    ------
    ExafelError
        The page cannot be written.
    """
    config = request.config
    assert isinstance(config, ReportConfig)
    with StepRun(request, comm) as step:
        if step.finished is not None:
            return step.up_to_date(Summary)
        with step.phase("report"):
            summary = from_root(comm, lambda: _write(step, request, config))
        return step.finish(summary)


def _write(step: StepRun, request: StepRequest, config: ReportConfig) -> Summary:
    trial = read_trial({name: paths[0] for name, paths in request.inputs.items()})
    sections = build_sections(trial, config)
    page = render_page(trial, sections, config.title).encode()
    with atomic_write(step.out / PAGE_NAME) as stream:
        stream.write(page)
    write_json(step.out / NUMBERS_NAME, numbers_of(trial, sections))
    step.add_container(step.out / PAGE_NAME, "html")
    step.add_container(step.out / NUMBERS_NAME, "json")
    return Summary(
        page=PAGE_NAME,
        sections=tuple(section.key for section in sections),
        absent=tuple(sections[0].numbers["absent"]),
        size_bytes=len(page),
    )
