"""The console script `exafel`: commands by name, errors to one line and an exit code."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import exafel
from exafel.cli import (
    cells,
    config,
    env,
    evaluate,
    facility,
    launch,
    merge,
    predict,
    refine_detector,
    report,
    simulate,
    spi,
    stage1,
    stage2,
    stills,
)
from exafel.errors import ConfigError, ExafelError, NothingUsableError

app = typer.Typer(
    name="exafel",
    help="Serial crystallography at X-ray free-electron lasers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(config.app, name="config")
app.command("report")(report.report)
app.command("stills")(stills.stills)
app.add_typer(simulate.app, name="simulate")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(spi.app, name="spi")
app.command("cells")(cells.cells)
app.command("refine-detector")(refine_detector.refine_detector)
app.command("merge")(merge.merge)
app.add_typer(facility.app, name="facility")
app.add_typer(env.app, name="env")
app.command("launch")(launch.launch)
app.command("stage1")(stage1.stage1)
app.command("predict")(predict.predict)
app.command("stage2")(stage2.stage2)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"exafel {exafel.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    version: Annotated[  # noqa: ARG001 - the callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serial crystallography at X-ray free-electron lasers."""
    if debug:
        os.environ["EXAFEL_DEBUG"] = "1"
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with 0 done, 1 failed, 2 bad usage or configuration, 3 nothing usable came out."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # or it looks through every installed package
    gc.set_threshold(100_000)  # imports make as many objects, which stay: looking for garbage among them finds none
    signal.signal(signal.SIGTERM, _end)
    sys.exit(run(arguments))


def _end(number: int, _frame: object) -> NoReturn:
    """Leave through the ``finally`` clauses, which end other ranks and programs, where a queue or a driver ends us."""
    sys.exit(128 + number)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        app(args=arguments, prog_name="exafel")
    except ExafelError as error:
        return _report(error)
    except SystemExit as leave:  # typer has shown help or a usage error, or the command has ended well
        return leave.code if isinstance(leave.code, int) else 0
    except Exception as error:
        traceback.print_exception(error)
        sys.stderr.write("exafel: an error that should not happen; please report it with the lines above\n")
        return _abort_ranks(1)
    return 0


def _report(error: ExafelError) -> int:
    from exafel.parallel.mpi import launched_rank, let_rank_0_speak

    if os.environ.get("EXAFEL_DEBUG"):
        traceback.print_exception(error)
    alike_on_all_ranks = isinstance(error, ConfigError | NothingUsableError)
    if launched_rank() > 0 and not alike_on_all_ranks:
        let_rank_0_speak()
    if launched_rank() == 0 or not alike_on_all_ranks:
        sys.stderr.write(f"exafel: {error}\n")
    return error.exit_code if alike_on_all_ranks else _abort_ranks(error.exit_code)


def _abort_ranks(code: int) -> int:
    """End the other MPI ranks too, where there are any: they would wait for this one for ever."""
    from exafel.parallel.mpi import abort_ranks, launched_ranks

    if launched_ranks() > 1:
        sys.stderr.flush()
        abort_ranks(code)
    return code
