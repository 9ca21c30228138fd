"""Merged intensities against the truth that stills were simulated from, for each way to scale and each error model.

    python benchmarks/merge_accuracy.py --structure ../shared/data/pdb/4bs7.pdb --work /tmp/merge_accuracy [--shots 360]

Simulates stills without point-spread function, processes them, and merges them with and without postrefinement: first
to the structure's calculated intensities, then to the lattices' own; sums, and in the end profile fits. Finished steps
in the work folder are not done again. Prints the correlation with the true squared amplitudes and CC1/2 by shell.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from exafel.config.base import validate
from exafel.config.merge import MergeConfig
from exafel.config.workflow import WorkflowConfig
from exafel.io.manifest import read_manifest
from exafel.parallel.comm import SerialComm
from exafel.parallel.launch import launch
from exafel.steps import merge, simulate, stills
from exafel.steps.merge import MergeSummary

CELL = [79.1, 79.1, 38.4, 90, 90, 90]
ERRORS = ("none", "errors_from_sample_residuals", "ev11", "mm24")


def workflow(structure: Path, shots: int) -> WorkflowConfig:
    """One square megapixel, a hundred energy channels of a spiky spectrum, mosaic crystals, Poisson noise."""
    detector = {"type": "grid", "panel_size_px": [1024, 1024], "pixel_size_mm": 0.177, "distance_mm": 105.0}
    simulated = {"structure": str(structure), "n_shots": shots, "no_hit_fraction": 0.0, "seed": 404}
    spots = {"kernel_size": [4, 4], "sigma_background": 6, "sigma_strong": 5, "global_threshold": 10}
    sections = {
        "simulate": {**simulated, "d_min_angstrom": 1.85, "detector": detector},
        "stills": {
            "spotfinding": {**spots, "min_spot_size": 2, "d_min": 1.9},
            "indexing": {"unit_cell": CELL, "space_group": "P43212"},
            "integration": {"profile_fitting": True},
        },
    }
    return validate(WorkflowConfig, sections)


def ways(structure: Path) -> dict[str, dict[str, object]]:
    reference = {"algorithm": "mark0", "model": str(structure)}
    own = {"algorithm": "self"}
    peer = ["G", "B", "thetax", "thetay"]
    refined = {"enabled": True}
    return {
        "mark1": {},
        "mark0": {"scaling": reference},
        "mark0 + rs as the peer's": {
            "scaling": reference,
            "postrefinement": {**refined, "algorithm": "rs", "refine": peer},
        },
        "mark0 + rs2": {"scaling": reference, "postrefinement": refined},
        "self": {"scaling": own},
        "self + rs2": {"scaling": own, "postrefinement": refined},
        "mark0 + rs2, profile fits": {"scaling": reference, "postrefinement": refined, "intensities": "profile"},
        "self + rs2, profile fits": {"scaling": own, "postrefinement": refined, "intensities": "profile"},
    }


def show(name: str, error: str, summary: MergeSummary, seconds: float) -> None:
    accepted = f"{summary.n_accepted}/{summary.n_lattices}"
    parameters = ", ".join(f"{key} {value:.2f}" for key, value in summary.error_parameters.items())
    print(
        f"{name:26s} {error:30s} {accepted:>8s} {summary.n_obs:7d} {summary.n_unique:6d} "
        f"{summary.cc_iso:7.4f} {summary.cc_half:7.4f} {summary.r_split:7.3f} {seconds:6.1f}  {parameters}"
    )
    print("      CC true ", " ".join(f"{shell.cc_iso:6.3f}" for shell in summary.shells))
    print("      CC1/2   ", " ".join(f"{shell.cc_half:6.3f}" for shell in summary.shells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structure", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shots", type=int, default=360)
    parser.add_argument("--ranks", type=int, default=1)
    arguments = parser.parse_args()
    work, structure = arguments.work, arguments.structure
    config = workflow(structure, arguments.shots)
    assert config.simulate is not None
    launch(simulate.run, simulate.request(config.simulate, work / "simulate"), ranks=arguments.ranks)
    launch(stills.run, stills.request(config.stills, [work / "simulate"], work / "stills"), ranks=arguments.ranks)
    (truth,) = read_manifest(work / "simulate").files(work / "simulate", "mtz")
    common = {"d_min": 2.0, "merge_anomalous": True, "unit_cell": CELL, "space_group": "P43212"}
    common["statistics"] = {"cciso_model": str(truth)}
    print(f"{'scaling':26s} {'errors':30s} lattices     obs unique CC true   CC1/2  Rsplit  CPU-s")
    for name, sections in ways(structure).items():
        for error in ERRORS:
            settings = MergeConfig.model_validate({**common, **sections, "error": {"model": error}})
            out = work / f"{name.replace(' ', '_')}-{error}"
            start = time.process_time()
            summary = merge.run(merge.request(settings, [work / "stills"], out), SerialComm())
            show(name, error, summary, time.process_time() - start)


if __name__ == "__main__":
    main()
