"""Cost of merging: the thaumatin stills beside cctbx.xfel.merge, and the rate on made reflections.

    python benchmarks/merge.py [--reflections 1000000 10000000] [--ranks 1 2] [--data ../shared/data/dials_thaumatin]

The peer's figure is for the same files and settings, one process, on a machine like the project's, with its start-up.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gemmi
import numpy as np

from exafel.config.merge import MergeConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt import write_expt
from exafel.io.geometry import Beam, Detector, Panel
from exafel.io.mtz import MergedData, write_mtz
from exafel.io.refl import write_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.accumulators import ACCUMULATORS_NAME, read_accumulators
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.combine import Grouped
from exafel.merging.error_models import fit_errors
from exafel.merging.halves import random_splits
from exafel.merging.lattices import Lattice, Target
from exafel.merging.merge import join, merge
from exafel.merging.passes import Gathered, collect
from exafel.merging.polarization import polarization_factor
from exafel.merging.prepare import prepare_lattice
from exafel.merging.statistics import possible_reflections, shell_statistics
from exafel.merging.store import ObservationStore
from exafel.merging.table import order_table
from exafel.parallel.comm import Communicator, SerialComm
from exafel.parallel.local import run_local
from exafel.steps import merge as step

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "workflows/config/examples/thaumatin_merge_as_peer.yaml"
PEER_CPU_S = 8.5
CELL = (78.0, 78.0, 264.0, 90.0, 90.0, 120.0)
GROUP = "P6522"
PER_LATTICE = 500
D_MIN = 2.0
SDFAC, SDADD = 1.3, 0.4
PANEL = Panel(
    "p", np.array([-1.0, 1.0, -2.0]), np.array([1.0, 0, 0]), np.array([0, -1.0, 0]), (0.1, 0.1), (20, 20)
)  # that no reflection is looked up on
DETECTOR = Detector((PANEL,))


class Maker:
    """Makes lattices of a protein's worth of reflections, with errors that ev11 describes exactly."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.group = gemmi.find_spacegroup_by_name(GROUP)
        self.unique = gemmi.make_miller_array(gemmi.UnitCell(*CELL), self.group, D_MIN)
        self.true = 500.0 * np.random.default_rng(seed).exponential(size=len(self.unique))
        self.basis = orthogonalization(CELL).T
        self.beam = Beam(1.3)

    def lattice(self, number: int) -> tuple[Experiment, ReflectionTable]:
        rng = np.random.default_rng((self.seed, number))
        chosen = rng.integers(len(self.unique), size=PER_LATTICE)
        true = self.true[chosen]
        variance = 400.0 * rng.uniform(0.5, 2.0, size=PER_LATTICE)
        s1 = rng.normal(size=(PER_LATTICE, 3)) * 0.3 + [0.0, 0.0, -1.0]
        weakened = polarization_factor(s1, self.beam)
        intensity = rng.normal(true, SDFAC * np.sqrt(variance + (SDADD * true) ** 2))
        columns = {
            "miller_index": self.unique[chosen].astype(np.int32),
            "s1": s1,
            "intensity.sum.value": intensity * weakened,
            "intensity.sum.variance": variance * weakened**2,
            "flags": np.full(PER_LATTICE, int(Flag.INTEGRATED_SUM), dtype=np.uint64),
        }
        crystal = Crystal(self.basis * (1.0 + 1e-9 * number), self.group.hall)
        experiment = Experiment(f"made-{number:09d}", self.beam, DETECTOR, ImageRef(Path("made.h5"), number), crystal)
        return experiment, ReflectionTable(columns)


class Clock:
    """CPU seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def lattices(maker: Maker, numbers: range, target: Target, config: MergeConfig, clock: Clock) -> Iterator[Lattice]:
    """Make and prepare lattices; making them is a phase of its own, which is not part of merging."""
    for number in numbers:
        clock.lap("exchange")
        experiment, table = maker.lattice(number)
        clock.lap("making")
        found = prepare_lattice(experiment, table, target, config)
        clock.lap("lattices")
        if isinstance(found, Lattice):
            yield found


def made(n: int, more: dict[str, object], folder: Path, comm: Communicator) -> None:
    settings = {"unit_cell": CELL, "space_group": GROUP, "d_min": D_MIN, **more}
    config = MergeConfig.model_validate(settings)
    asu = AsymmetricUnit(gemmi.find_spacegroup_by_name(GROUP), merge_anomalous=config.merge_anomalous)
    target = Target(asu, gemmi.UnitCell(*CELL))
    maker, clock = Maker(1), Clock()
    store = ObservationStore(folder / str(comm.rank), config.rows_in_memory)
    mine = range(comm.rank, n // PER_LATTICE, comm.size)
    table, numbers = order_table(*collect(lattices(maker, mine, target, config, clock), store, comm, config.slice_rows))
    store.number(numbers)
    clock.lap("exchange")
    cell = gemmi.UnitCell(*table.average_cell())
    grouped = Grouped(Gathered(store, table, len(table), {}), asu, cell, D_MIN * config.resolution_scalar)
    errors = fit_errors(grouped.parts, store.n_rows, table.correlations, None, config, comm)
    clock.lap("errors")
    splits = random_splits(table.digests, config.statistics.random_splits)
    parts = comm.gather(join([merge(part, errors.variance(part), splits) for part in grouped.parts()]))
    clock.lap("merge")
    total = None
    if parts is not None:
        merged = join(parts).with_at_least(config.minimum_multiplicity)
        possible = possible_reflections(asu, cell, D_MIN, None, 20)
        _, total = shell_statistics(merged.take(possible.shell(asu.indices(merged.keys)) >= 0), asu, possible, None)
    clock.lap("statistics")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    everyone = comm.gather((clock.seconds, peak))
    if everyone is not None and total is not None:
        report(n, everyone, config, store.on_disk)
        print(f"  CC1/2 {total.cc_half:.6f}, {errors.parameters()} (made with sdfac {SDFAC}, sdadd {SDADD})")


def report(n: int, everyone: list[tuple[dict[str, float], float]], config: MergeConfig, on_disk: bool) -> None:
    """Print what each phase took, on all ranks together."""
    where = "on disk in parts" if on_disk else "in memory"
    print(f"{n} made reflections, {PER_LATTICE} a lattice, {len(everyone)} ranks, {config.error.model}, {where}")
    making = sum(seconds.pop("making") for seconds, _ in everyone)
    names = everyone[0][0]
    times = {name: sum(seconds[name] for seconds, _ in everyone) for name in names}
    times["all"] = sum(times.values())
    for name, seconds in times.items():
        print(f"  {name:12s} {seconds:8.2f} CPU-s  {n / max(seconds, 1e-9) / 1e6:8.2f} M reflections/s")
    peaks = ", ".join(f"{peak:.0f}" for _, peak in everyone)
    print(f"  peak memory of the ranks {peaks} MiB; making the reflections took {making:.1f} CPU-s more")


def write_lattices(maker: Maker, folder: Path, name: str, numbers: range) -> None:
    experiments, tables = ExperimentList(), []
    for number in numbers:
        experiment, table = maker.lattice(number)
        experiments.append(experiment)
        tables.append(ReflectionTable({**table.columns, "id": np.zeros(len(table), dtype=np.int32)}))
    folder.mkdir(exist_ok=True)
    write_expt(folder / f"{name}_integrated.expt", experiments)
    write_refl(folder / f"{name}_integrated.refl", ReflectionTable.concatenate(tables))


def incremental(n: int, folder: Path) -> None:
    """Merge nine tenths of the lattices, add the last tenth, and compare with merging all."""
    maker = Maker(2)
    n_lattices = n // PER_LATTICE
    write_lattices(maker, folder / "A", "a", range(n_lattices * 9 // 10))
    write_lattices(maker, folder / "B", "b", range(n_lattices * 9 // 10, n_lattices))
    reference = folder / "reference.mtz"
    ones = np.ones(len(maker.true))
    write_mtz(reference, MergedData(maker.unique, CELL, GROUP, 1.3, maker.true, ones, ones))
    settings = {"unit_cell": CELL, "space_group": GROUP, "d_min": D_MIN, "accumulate": True}
    error = {"model": "given", "sdfac": SDFAC, "sdadd": SDADD}
    scaling = {"algorithm": "mark0", "model": str(reference)}
    config = MergeConfig.model_validate({**settings, "error": error, "scaling": scaling})
    costs = {}
    for name, inputs, onto in (("A", ["A"], None), ("B onto A", ["B"], folder / "out-A"), ("A+B", ["A", "B"], None)):
        out = folder / f"out-{name.replace(' ', '-')}"
        start = time.process_time()
        step.run(step.request(config, [folder / item for item in inputs], out, onto=onto), SerialComm())
        costs[name] = time.process_time() - start
    sums = [read_accumulators(folder / name / ACCUMULATORS_NAME).merged.all for name in ("out-B-onto-A", "out-A+B")]
    off = float(np.abs(sums[0].mean / sums[1].mean - 1.0).max())
    print(f"incremental, {n} reflections: " + ", ".join(f"{name} {cost:.2f} CPU-s" for name, cost in costs.items()))
    same = np.array_equal(sums[0].n, sums[1].n)
    print(f"  same reflections and counts: {same}; largest relative difference of intensities {off:.1e}")


def whole_process(data: Path) -> float:
    """CPU seconds of the command, start-up included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        command = ["merge", "--json", "--config", str(EXAMPLE), "--stills", str(data), "--out", folder]
        program = "from exafel.cli.main import main; main()"
        subprocess.run([sys.executable, "-c", program, *command], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def thaumatin(data: Path) -> None:
    config = load_workflow_config(EXAMPLE).merge
    costs = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            summary = step.run(step.request(config, [data], Path(folder)), SerialComm())
            costs.append(time.process_time() - start)
    whole = min(whole_process(data) for _ in range(3))
    print(
        f"thaumatin: {summary.n_observations_read} reflections, {min(costs):.2f} CPU-s after imports, "
        f"{whole:.2f} with them"
    )
    print(f"  cctbx.xfel.merge: {PEER_CPU_S} CPU-s with them; ratio {PEER_CPU_S / whole:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reflections", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--ranks", type=int, nargs="*", default=[1])
    parser.add_argument("--error", choices=["none", "ev11", "mm24"], default="ev11")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/dials_thaumatin")
    parser.add_argument("--rows-in-memory", type=int, default=20_000_000)
    arguments = parser.parse_args()
    more = {"error": {"model": arguments.error}, "rows_in_memory": arguments.rows_in_memory}
    if arguments.data.is_dir():
        thaumatin(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        incremental(500_000, Path(folder))
    for n in arguments.reflections:
        for ranks in arguments.ranks:
            with tempfile.TemporaryDirectory() as folder:
                run_local(made, ranks, n, more, Path(folder))


if __name__ == "__main__":
    main()
