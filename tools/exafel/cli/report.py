"""Write one self-contained page on what was done to one data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exafel.cli.common import ConfigOption, DryRunOption, JsonOption, SetOption, load_config, run_step


def report(
    results: Annotated[
        list[Path],
        typer.Option(
            "--results", "-r", help="Folder <results>/<dataset>/<trial>, or single steps' folders; repeatable."
        ),
    ],
    config: ConfigOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the page. Default: report beside the steps' folders.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write one self-contained page on what was done to one data set, report.html, and its numbers, report.json."""
    from exafel.monitor.report.trial import find_steps
    from exafel.steps import report as step

    section = load_config(config, overrides).report
    target = out or next(iter(find_steps(results).values())).parent / "report"
    run_step(step, step.request(section, results, target), as_json=as_json, dry_run=dry_run)
