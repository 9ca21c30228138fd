"""Stage 2 on the pixels of many simulated shots: speed, memory, ranks, and how near it comes to the truth.

Shots are of a crystal of the given structure with anomalous scattering: random orientations, 100 channels, cells that
vary by 0.1 %. Of each, the boxes of pixels around its predicted reflections are simulated, with a sloping background
and photon noise, and not the rest of the image. The model that stage 2 keeps differs from the truth as much as that of
stage 1 does on simulated stills (0.001 degrees, 0.001 A, 1 % of the block size). Amplitudes start from the mean over
shots of the summed intensities, as merging without partialities gives them.

Run with ``OMP_NUM_THREADS=1 python benchmarks/stage2.py --structure FILE.pdb [--shots 512] [--ranks 1 2 4]
[--memory-gb 4] [--device gpu]``: a row for each number of local processes, and the same shots for all; with ``--weak``
that many shots a rank. Under mpiexec there is one row, of its ranks. With ``--work DIR``, runs write checkpoints there
and go on from them.

Core-seconds are of rank 0; the bandwidth is that of a copy by all ranks at once, read and written.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exafel.bragg.detectors import grid_detector
from exafel.bragg.figures import amplitude_shells
from exafel.bragg.predict import candidate_reflections
from exafel.bragg.reflection_set import ReflectionSet, reflection_set
from exafel.bragg.shoeboxes import Shoeboxes, box_pixels
from exafel.bragg.shot_model import ShotParameters, ShotScene
from exafel.bragg.shots import random_pulse, random_rotation
from exafel.bragg.spot_model import box_coefficients
from exafel.bragg.stage2 import Stage2Shots
from exafel.bragg.stage2_array import array_evaluator
from exafel.bragg.stage2_shots import compact_shot
from exafel.config.simulate import GridDetector, PulseConfig, ReadoutConfig
from exafel.config.stage2 import Stage2Config
from exafel.io.crystal import Crystal, orthogonalization
from exafel.io.structure import read_structure, structure_factors
from exafel.parallel.comm import Communicator
from exafel.parallel.launch import launch
from exafel.parallel.mpi import launched_rank, launched_ranks
from exafel.steps.shot_setup import shell_mean_square
from exafel.steps.stage2_refine import Refinement

D_MIN = 2.0
BOX = 11
N_CELLS = 25.0
BACKGROUND = 8.0
FLUENCE = 1e12 / 3e-6**2
ROUNDS = 5
PULSE = PulseConfig(photon_energy_ev=9500, channels=100)
DETECTOR = grid_detector(
    GridDetector(panel_size_px=(768, 768), pixel_size_mm=0.2, distance_mm=95), ReadoutConfig(saturation_photons=1e9)
)
PAPER = {"shots": 2**19, "ranks": 4096, "iterations": 451, "seconds": 850}


@dataclass(frozen=True)
class Pixels:
    """Simulated boxes of one shot, and the model that stage 2 has of it."""

    number: int
    scene: ShotScene
    parameters: ShotParameters
    corners: np.ndarray
    data: np.ndarray
    reflection: np.ndarray


def truth_of(structure: Path) -> tuple[ReflectionSet, np.ndarray]:
    model = read_structure(structure)
    wavelength = 12398.42 / PULSE.photon_energy_ev
    hkl, F = structure_factors(structure, D_MIN * 0.999, wavelength)
    known = reflection_set(model.cell.parameters, model.find_spacegroup(), D_MIN)
    amplitude = np.zeros(len(known))
    where = known.lookup(hkl)
    amplitude[where[where >= 0]] = np.abs(F)[where >= 0]
    return known, np.maximum(amplitude, 1e-3)


def simulate(number: int, known: ReflectionSet, F: np.ndarray, mean_square: np.ndarray) -> Pixels:
    rng = np.random.default_rng([11, number])
    beam = random_pulse(rng, PULSE)
    factor = 1 + 0.001 * rng.standard_normal(2)
    cell = np.array(known.cell)
    cell[:2] *= factor[0]
    cell[2] *= factor[1]
    true = Crystal((random_rotation(rng) @ orthogonalization(cell)).T, str(known.space_group.hall))
    scale = 60 * np.exp(0.3 * rng.standard_normal())
    scene = ShotScene(DETECTOR, beam, true, known.table(F), FLUENCE)
    exact = ShotParameters(true.cell, (N_CELLS,) * 3, scale)
    turn = np.radians(0.001) * rng.standard_normal(3)
    off = np.array(true.cell)
    off[:2] += 0.001 * rng.standard_normal()
    off[2] += 0.001 * rng.standard_normal()
    blocks = N_CELLS * (1 + 0.01 * rng.standard_normal(3))
    model = ShotParameters(tuple(off), tuple(blocks), scale, turns_rad=tuple(turn))
    found = candidate_reflections(scene, exact, D_MIN, 60.0)
    corners = np.column_stack([found.panel, np.floor(found.xy_px - (BOX - 1) / 2)]).astype(np.int32)
    number_of = known.lookup(found.hkl)
    inside = np.all((corners[:, 1:] >= 0) & (corners[:, 1:] + BOX <= 768), axis=1) & (number_of >= 0)
    corners, number_of = corners[inside], number_of[inside]
    table = box_coefficients(scene, exact, known, corners, BOX)
    expected = np.asarray(table @ mean_square).reshape(-1, BOX * BOX).sum(axis=1)
    kept = expected > 5
    corners, number_of = corners[kept], number_of[kept]
    rows = np.repeat(kept, BOX * BOX)
    photons = (table[rows] @ F**2).reshape(-1, BOX, BOX)
    slope = box_pixels(corners, BOX)[..., 1] / 768 * 2
    return Pixels(number, scene, model, corners, rng.poisson(photons + BACKGROUND + slope).astype(np.int16), number_of)


def merged(shots: list[Pixels], n: int, comm: Communicator) -> np.ndarray:
    """Amplitudes from the mean over shots of summed intensities, each shot brought to a mean of one."""
    total, count = np.zeros(n), np.zeros(n)
    for shot in shots:
        rim = shot.data.astype(float)
        background = np.median(rim, axis=(1, 2), keepdims=True)
        summed = (rim - background)[:, 2:-2, 2:-2].sum(axis=(1, 2))
        np.add.at(total, shot.reflection, summed / max(summed.mean(), 1))
        np.add.at(count, shot.reflection, 1)
    total, count = comm.allreduce_sum(total), comm.allreduce_sum(count)
    mean = total / np.maximum(count, 1)
    typical = mean[count > 0].mean()
    return np.sqrt(np.where(count > 0, np.maximum(mean, 0.02 * typical), typical))


def bandwidth() -> float:
    """Bytes a core-second that a copy of a large array reads and writes."""
    a, b = np.ones(2**24), np.empty(2**24)
    b[:] = a
    start = time.process_time()
    for _ in range(3):
        b[:] = a
    return 3 * 2 * a.nbytes / (time.process_time() - start)


@dataclass(frozen=True)
class Case:
    """What is measured."""

    structure: Path
    memory_gb: float
    iterations: int
    device: str
    work: Path


def measure(case: Case, n_shots: int, comm: Communicator) -> dict:
    structure, memory_gb, iterations = case.structure, case.memory_gb, case.iterations
    work = case.work / f"{n_shots}-shots-{comm.size}-ranks"
    work.mkdir(parents=True, exist_ok=True)
    known, F = truth_of(structure)
    mean_square = shell_mean_square(known, F)
    shots = [simulate(number, known, F, mean_square) for number in range(comm.rank, n_shots, comm.size)]
    start = merged(shots, len(known), comm)
    start *= np.sqrt(np.sum(F**2) / np.sum(start**2))
    config = Stage2Config(memory_gb=memory_gb, max_iterations=iterations, threads=1)
    evaluator = array_evaluator(case.device)
    held = Stage2Shots(known, 0.0, config.held_out, config.seed, memory_gb * 2**30, evaluator)
    begin = time.process_time()
    table = known.table(start)
    compact = []
    for shot in shots:
        good = np.ones(shot.data.shape, dtype=bool)
        boxes = Shoeboxes(shot.corners, BOX, shot.data.astype(float), good, np.arange(len(shot.corners)))
        scene = ShotScene(DETECTOR, shot.scene.beam, shot.scene.crystal, table, FLUENCE)
        compact.append(compact_shot(shot.number, scene, shot.parameters, known, start, boxes))
    held.add(compact)
    setup = time.process_time() - begin
    refinement = Refinement(held, start, n_shots, config, comm, work, f"{n_shots}")
    began, cpu = time.monotonic(), time.process_time()
    refinement.run(lambda _: None)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    state, progress = refinement.state, refinement.progress
    best = np.exp(refinement.ln_f(progress.best_x))
    seen = refinement.counts() > 0
    comm.allreduce_sum(np.zeros(1))  # all ranks at once
    begin, began = time.process_time(), time.monotonic()
    for _ in range(ROUNDS):
        held.evaluate(best)
    one, one_wall = (time.process_time() - begin) / ROUNDS, (time.monotonic() - began) / ROUNDS
    comm.allreduce_sum(np.zeros(1))
    rate = bandwidth()
    began = time.monotonic()
    for _ in range(ROUNDS):
        comm.allreduce_array(np.zeros(len(known) + 6))
    exchange = (time.monotonic() - began) / ROUNDS
    first, last = progress.history[0], progress.history[progress.best_iteration]
    if comm.rank == 0:
        np.save(case.work / f"refined-{comm.size}.npy", np.log(best))
    return {
        "ranks": comm.size,
        "shots": n_shots,
        "reflections": int(seen.sum()),
        "iterations": state.iteration,
        "evaluations": state.evaluations,
        "ended_by": progress.reason,
        "seconds": wall,
        "setup_core_s_a_shot": setup / max(len(shots), 1),
        "core_s_a_shot": cpu / max(len(shots), 1),
        "evaluation_core_s": one,
        "evaluation_s": one_wall,
        "exchange_s": exchange,
        "shots_a_rank": len(shots),
        "M_terms_a_core_s": held.n_terms / one / 1e6,
        "terms_a_reflection": held.n_terms / sum(len(shot.corners) for shot in shots),
        "bandwidth_fraction": held.packed_bytes / one / rate,
        "bandwidth_gb_s": rate * 1e-9,
        "kb_a_shot": max(held.packed_bytes, held.compact_bytes) / len(shots) / 1e3,
        "recomputed": held.n_recomputed,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "sigma_z": [first["sigma_z"], last["sigma_z"]],
        **{name: agreement(known, seen, amplitude, F) for name, amplitude in (("start", start), ("end", best))},
    }


def agreement(known: ReflectionSet, seen: np.ndarray, amplitude: np.ndarray, F: np.ndarray) -> list[float | None]:
    """R, CC and CC of Bijvoet differences."""
    whole = amplitude_shells(known.hkl[seen], amplitude[seen], known.d[seen], known.table(F), 1)[0]
    return [whole.r_factor, whole.cc, whole.cc_anomalous]


COLUMNS = {
    "ranks": ("{:5d}", "ranks"),
    "shots": ("{:6d}", "shots"),
    "evaluations": ("{:6d}", "evals"),
    "seconds": ("{:8.2f}", "seconds"),
    "core_s_a_shot": ("{:10.5f}", "core-s/shot"),
    "evaluation_s": ("{:8.5f}", "s/eval"),
    "exchange_s": ("{:9.6f}", "s/all-reduce"),
    "M_terms_a_core_s": ("{:7.1f}", "M terms/core-s"),
    "bandwidth_gb_s": ("{:6.1f}", "copy GB/s"),
    "bandwidth_fraction": ("{:6.3f}", "fraction of it"),
    "kb_a_shot": ("{:7.1f}", "kB/shot"),
    "rss_mib": ("{:6d}", "RSS MiB"),
}


def table(rows: list[dict]) -> str:
    """One line a row, under the columns' names."""
    cells = [[form.format(row[name]).strip() for name, (form, _) in COLUMNS.items()] for row in rows]
    lines = [[title for _, title in COLUMNS.values()], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def model(row: dict, n_reflections: int = 60_000) -> str:
    """Seconds of the paper's run by a row's measurements: its share of shots a rank, and an all-reduce by trees."""
    a_rank = PAPER["shots"] / PAPER["ranks"]
    compute = row["evaluation_s"] / row["shots_a_rank"] * a_rank
    exchange = 2 * 8 * n_reflections / 2e9 + 2 * np.log2(PAPER["ranks"]) * 5e-6
    total = PAPER["iterations"] * row["evaluations"] / max(row["iterations"], 1) * (compute + exchange)
    return (
        f"2^19 shots on 4,096 ranks, by the row of {row['ranks']} ranks: {a_rank:.0f} shots a rank, "
        f"{compute * 1e3:.1f} ms of sums and {exchange * 1e3:.1f} ms of all-reduce an evaluation of "
        f"{n_reflections} reflections (2 GB/s a rank and 5 us a hop assumed); {PAPER['iterations']} iterations in "
        f"{total:.1f} s, paper {PAPER['seconds']} s on 256 nodes; {row['kb_a_shot'] * a_rank / 1e3:.1f} MB of shots a "
        f"rank, set up in {row['setup_core_s_a_shot'] * a_rank:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=512)
    parser.add_argument("--weak", action="store_true", help="that many shots a rank")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        case = Case(options.structure, options.memory_gb, options.iterations, options.device, work)
        launched = launched_ranks()
        rows = []
        for ranks in [launched] if launched > 1 else options.ranks:
            shots = options.shots * (ranks if options.weak else 1)
            rows.append(launch(measure, case, shots, ranks=1 if launched > 1 else ranks))
        if launched_rank() == 0:
            show(rows, None if options.weak else work)


def show(rows: list[dict], work: Path | None) -> None:
    first = rows[0]
    print(json.dumps({name: first[name] for name in first if name not in COLUMNS}))
    print(table(rows))
    if work is not None and len(rows) > 1:
        refined = [np.load(work / f"refined-{row['ranks']}.npy") for row in rows]
        largest = max(float(np.abs(other - refined[0]).max()) for other in refined[1:])
        print(f"largest difference of ln F between numbers of ranks: {largest:.2g}")
    print(model(rows[-1]))


if __name__ == "__main__":
    main()
