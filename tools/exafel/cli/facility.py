"""The commands `exafel facility`: what facilities there are, whether their files are in step, and rehearsals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from exafel.cli.common import JsonOption
from exafel.errors import ConfigError

app = typer.Typer(help="Facilities: one YAML file each, and what is generated from it.", no_args_is_help=True)

FacilityArgument = Annotated[str, typer.Argument(help="Name of a folder of profiles/, or a facility.yaml.")]
FacilitiesArgument = Annotated[list[str] | None, typer.Argument(help="Facilities. Default: all in profiles/.")]


@app.command("list")
def list_facilities(as_json: JsonOption = False) -> None:
    """List the facilities: nodes, scheduler, environment."""
    from exafel.facility.load import facility_names, load_site, profiles_folder

    rows = []
    for name in facility_names(profiles_folder()):
        site = load_site(name)
        kinds = ", ".join(f"{item.count} {kind}" for kind, item in site.nodes.items())
        executor = getattr(site.scheduler, "executor", "local")
        rows.append({"facility": name, "title": site.title, "nodes": kinds, "executor": executor})
        rows[-1]["environment"] = site.environment
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        sys.stdout.write("{facility:12} {executor:6} {environment:10} {nodes:28} {title}\n".format(**row))


@app.command()
def check(facilities: FacilitiesArgument = None) -> None:
    """Check facilities: their model, every step's layout, time limits, and that generated files are in step."""
    from exafel.facility.check import check_site
    from exafel.facility.load import facility_names, load_site, profiles_folder

    faults = []
    for name in facilities or facility_names(profiles_folder()):
        found = check_site(load_site(name), profiles_folder() / name)
        faults += [f"{name}: {line}" for line in found]
        sys.stdout.write(f"{name}: {'ok' if not found else f'{len(found)} faults'}\n")
    if faults:
        raise ConfigError("; ".join(faults), hint="exafel facility render --fix mends generated files")


@app.command()
def render(
    facilities: FacilitiesArgument = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write the files instead of showing how they differ.")] = False,
) -> None:
    """Show how generated files differ from what facility.yaml says, or write them; exit with 1 where they differ."""
    from exafel.facility.load import facility_names, load_site, profiles_folder
    from exafel.facility.render import out_of_step

    folder = profiles_folder()
    difference = "".join(
        out_of_step(folder / name, load_site(name), fix=fix) for name in facilities or facility_names(folder)
    )
    sys.stdout.write(difference)
    if difference:
        raise typer.Exit(1)


@app.command(context_settings={"ignore_unknown_options": True})
def rehearse(
    facility: FacilityArgument,
    command: Annotated[list[str], typer.Argument(help="What to run: -- snakemake --profile profiles/F ...")],
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            "-s",
            help="normal, preempt, reservation, node-loss, walltime, sbcast-failure or full-disk.",
        ),
    ] = "normal",
    nodes: Annotated[int, typer.Option("--nodes", "-N", min=1, help="Virtual nodes of each kind.")] = 4,
    ranks: Annotated[int, typer.Option("--ranks", min=1, help="Most ranks on a virtual node.")] = 1,
    after: Annotated[float, typer.Option("--after", min=0, help="Seconds that a job runs before the scenario.")] = 5.0,
) -> None:
    """Run a command on a real Slurm on this machine that is shaped like a facility, and let things go wrong there."""
    from exafel.facility.load import load_site
    from exafel.facility.rehearsal.rehearse import rehearse as rehearse_it

    done = rehearse_it(load_site(facility), command, scenario=scenario, nodes=nodes, ranks_a_node=ranks, after_s=after)
    sys.stdout.write(done.accounting)
    sys.stdout.writelines(f"{node}: {listed}\n" for node, listed in done.disks.items())
    raise typer.Exit(done.returncode)


@app.command()
def startup(
    results: Annotated[list[Path], typer.Argument(help="Folders of results; every step in and below them counts.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Picture to write: .svg, .png or .pdf.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how long ranks took to begin, by number of nodes: launch, imports, MPI, first image."""
    from exafel.monitor.startup import PHASES, draw, manifests_below, startup_table

    table = startup_table(manifests_below(results))
    if plot is not None:
        from matplotlib.figure import Figure

        if plot.suffix not in (".svg", ".png", ".pdf"):
            raise ConfigError("a picture is .svg, .png or .pdf", where=plot)
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        draw(figure.subplots(), table, (f"C{number}" for number in range(len(PHASES))))
        figure.savefig(plot)
    if as_json:
        sys.stdout.write(table.to_json(orient="records") + "\n")
        return
    shown = [*PHASES, "total_largest"]
    sys.stdout.write(f"{'step':16} {'nodes':>6} {'ranks':>6} " + " ".join(f"{name:>13}" for name in shown) + "\n")
    for row in table.to_dict("records"):
        times = " ".join(f"{row[name]:13.2f}" for name in shown)
        sys.stdout.write(f"{row['step']:16} {row['nodes']:6} {row['ranks']:6} {times}  {row['environment']}\n")


@app.command(context_settings={"ignore_unknown_options": True})
def compound(
    facility: FacilityArgument,
    configs: Annotated[list[Path], typer.Argument(help="Configurations, one a data set; the file's name is its name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder: a working directory a data set, and the record.")],
    nodes: Annotated[int | None, typer.Option("--nodes", "-N", min=1, help="Nodes in all. Default: the job's.")] = None,
    each: Annotated[int, typer.Option("--nodes-each", min=1, help="Nodes of a data set.")] = 1,
    command: Annotated[
        str | None,
        typer.Option(
            "--command",
            help="What processes one, with {config}, {name}, {folder}. Default: the workflow, in its folder.",
        ),
    ] = None,
) -> None:
    """Process many data sets side by side in this job, each on nodes of its own; failures stay alone, and resume."""
    import shlex

    from exafel.errors import ExafelError
    from exafel.facility.compound import Compound, job_nodes, make_members
    from exafel.facility.deploy import deploy_for
    from exafel.facility.load import load_site, profiles_folder

    site = load_site(facility)
    profile = profiles_folder().absolute() / site.facility
    default = (
        f"snakemake --profile {profile} --executor local --cores all --directory {{folder}} --configfile {{config}}"
    )
    members = make_members(configs, out, shlex.split(command or default))
    names = job_nodes() or [f"slot{number}" for number in range(nodes or each)]
    deploy_for(site)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    records = Compound(out, names[: nodes or len(names)], each, say).run(members)
    bad = [name for name in (member.name for member in members) if name not in records or records[name].state != "done"]
    if bad:
        hint = "their compound.log says why; the same command goes on with them alone"
        raise ExafelError(f"{len(bad)} of {len(members)} data sets are not done: {', '.join(bad)}", hint=hint)
