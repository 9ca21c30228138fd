"""Cost of merging: the thaumatin stills beside cctbx.xfel.merge, and the rate on made reflections.

    python benchmarks/merge.py [--reflections 1000000 10000000] [--data ../shared/data/dials_thaumatin]

The peer's figure is for the same files and settings, one process, on a machine like the project's, with its start-up.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gemmi
import numpy as np

from exafel.config.merge import MergeConfig
from exafel.config.workflow import load_workflow_config
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.experiment import Experiment, ImageRef
from exafel.io.geometry import Beam, Detector
from exafel.io.reflections import Flag, ReflectionTable
from exafel.merging.asu import AsymmetricUnit
from exafel.merging.combine import allowed, corrected_variance, tabulate, take_observations
from exafel.merging.group import group
from exafel.merging.lattices import Lattice, Target, prepare_lattice
from exafel.merging.merge import merge
from exafel.merging.polarization import polarization_factor
from exafel.merging.statistics import possible_reflections, shell_statistics
from exafel.parallel.comm import SerialComm
from exafel.steps import merge as step

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "workflows/config/examples/thaumatin_merge_as_peer.yaml"
PEER_CPU_S = 8.5
CELL = (78.0, 78.0, 264.0, 90.0, 90.0, 120.0)
GROUP = "P6522"
PER_LATTICE = 500
D_MIN = 2.0
SDFAC, SDADD = 1.3, 0.4
BLOCK = 1000
DETECTOR = Detector(())


class Maker:
    """Makes lattices of a protein's worth of reflections, with errors that ev11 describes exactly."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.group = gemmi.find_spacegroup_by_name(GROUP)
        self.unique = gemmi.make_miller_array(gemmi.UnitCell(*CELL), self.group, D_MIN)
        self.true = 500.0 * self.rng.exponential(size=len(self.unique))
        self.basis = orthogonalization(CELL).T
        self.beam = Beam(1.3)

    def lattice(self, number: int) -> tuple[Experiment, ReflectionTable]:
        chosen = self.rng.integers(len(self.unique), size=PER_LATTICE)
        true = self.true[chosen]
        variance = 400.0 * self.rng.uniform(0.5, 2.0, size=PER_LATTICE)
        s1 = self.rng.normal(size=(PER_LATTICE, 3)) * 0.3 + [0.0, 0.0, -1.0]
        weakened = polarization_factor(s1, self.beam)
        intensity = self.rng.normal(true, SDFAC * np.sqrt(variance + (SDADD * true) ** 2))
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


def prepared(maker: Maker, n: int, target: Target, config: MergeConfig) -> tuple[list[Lattice], float]:
    """Make and prepare lattices in blocks; only preparing them is timed."""
    lattices, took = [], 0.0
    for first in range(0, n // PER_LATTICE, BLOCK):
        block = [maker.lattice(number) for number in range(first, min(first + BLOCK, n // PER_LATTICE))]
        start = time.process_time()
        found = [prepare_lattice(experiment, table, target, config) for experiment, table in block]
        lattices.extend(item for item in found if isinstance(item, Lattice))
        took += time.process_time() - start
    return lattices, took


def made(n: int) -> None:
    config = MergeConfig.model_validate({"unit_cell": CELL, "space_group": GROUP, "d_min": D_MIN})
    comm = SerialComm()
    asu = AsymmetricUnit(gemmi.find_spacegroup_by_name(GROUP), merge_anomalous=config.merge_anomalous)
    target = Target(asu, gemmi.UnitCell(*CELL))
    print(f"{n} made reflections, {PER_LATTICE} a lattice, one rank")
    lattices, took = prepared(Maker(1), n, target, config)
    times = {"lattices": took}

    def lap(name: str, since: float) -> float:
        now = time.process_time()
        times[name] = now - since
        return now

    now = time.process_time()
    table, numbers = tabulate(lattices, comm)
    local = take_observations(lattices, numbers)
    cell = gemmi.UnitCell(*table.average_cell())
    grouped = allowed(group(local, comm, config.slice_rows), asu, cell, D_MIN * config.resolution_scalar)
    now = lap("group", now)
    variance, model = corrected_variance(grouped, config, comm)
    now = lap("errors", now)
    merged = merge(grouped, variance).with_at_least(config.minimum_multiplicity)
    now = lap("merge", now)
    possible = possible_reflections(asu, cell, D_MIN, None, 20)
    _, total = shell_statistics(merged.take(possible.shell(asu.indices(merged.keys)) >= 0), asu, possible, None)
    lap("statistics", now)
    times["all"] = sum(times.values())
    for name, seconds in times.items():
        print(f"  {name:12s} {seconds:8.2f} CPU-s  {n / max(seconds, 1e-9) / 1e6:8.2f} M reflections/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory {peak:.0f} MiB ({peak * 1024**2 / n:.0f} bytes a reflection)")
    print(f"  CC1/2 {total.cc_half:.4f}, sdfac {model.sdfac:.3f} ({SDFAC}), sdadd {model.sdadd:.3f} ({SDADD})")


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
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/dials_thaumatin")
    arguments = parser.parse_args()
    if arguments.data.is_dir():
        thaumatin(arguments.data)
    for n in arguments.reflections:
        made(n)


if __name__ == "__main__":
    main()
