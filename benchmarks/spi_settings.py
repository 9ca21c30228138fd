"""Settings of the seven points of accuracy of single-particle imaging, and their detector."""

from __future__ import annotations

from typing import Any

DETECTOR = {"size_px": 64, "side_mm": 100.0, "distance_mm": 200.0}
SETTINGS: dict[str, dict[str, Any]] = {
    # Some starts are lost, and their scores tell: several are made at low resolution, where they cost little.
    "2": {
        "diameter_angstrom": 214.0,
        "d_min_angstrom": 8.24,
        "marching": {
            "d_start_angstrom": 24.0,
            "first_generations": 15,
            "generations": 2,
            "step": 1.31,
            "starts": 3,
            "start_generations": 9,
        },
        "matching": {"references": 3000, "soft": 50, "refine_from": 8, "local_from": 15},
        "merging": {"regularisation": [0.01]},
    },
    # Few photons: four starts at low resolution, where they cost little, and the best goes on; images are merged in
    # several orientations until the end, and refined in the last generation alone.
    "3": {
        "diameter_angstrom": 214.0,
        "d_min_angstrom": 16.0,
        "halves": False,
        "marching": {
            "d_start_angstrom": 27.0,
            "first_generations": 15,
            "generations": 3,
            "step": 1.31,
            "starts": 4,
            "start_generations": 9,
        },
        "matching": {"references": 3000, "soft": 50, "soft_until": 8, "refine_from": 20, "local_from": 21},
        "merging": {"regularisation": [0.1]},
    },
    "4": {
        "diameter_angstrom": 70.0,
        "d_min_angstrom": 9.0,
        "halves": False,
        "marching": {"d_start_angstrom": 11.0, "first_generations": 16, "starts": 2, "start_generations": 14},
        "matching": {"references": 3000, "soft": 100, "refine_from": 10, "local_from": 16},
        "merging": {"regularisation": [0.01]},
    },
    "5": {
        "diameter_angstrom": 214.0,
        "d_min_angstrom": 11.0,
        "halves": False,
        "classes": 2,
        "marching": {
            "d_start_angstrom": 24.0,
            "first_generations": 18,
            "generations": 2,
            "step": 1.3,
            "starts": 4,
            "start_generations": 9,
        },
        "matching": {"references": 3000, "soft": 50, "refine_from": 12, "local_from": 18},
        "merging": {"regularisation": [0.01]},
        "phasing": {"starts": 12},
    },
}
# Few photons, and the symmetry: two starts of which each has one conformation right make one that has both.
# Amplitudes are noisy at the edge: wholly imposed they keep the search from phases that it finds with less.
SETTINGS["5p"] = {
    "diameter_angstrom": 214.0,
    "d_min_angstrom": 11.0,
    "halves": False,
    "symmetry": "D8",
    "classes": 2,
    "max_generations": 100,
    "marching": {
        "d_start_angstrom": 32.0,
        "first_generations": 12,
        "generations": 3,
        "step": 1.32,
        "starts": 6,
        "start_generations": 8,
    },
    "matching": {"references": 1500, "soft": 100, "soft_end": 4, "soft_until": 8, "refine_from": 20, "local_from": 21},
    "merging": {"regularisation": [0.1]},
    "phasing": {"symmetric": True, "starts": 12, "averaged": 6, "shrinkwrap_threshold": 0.2, "edge_weight": 0.7},
}


def small(settings: dict[str, Any]) -> dict[str, Any]:
    """The same in a few seconds, to rehearse; its numbers mean nothing."""
    marching = {**settings["marching"], "first_generations": 3, "start_generations": 3, "generations": 1, "starts": 1}
    matching = {"references": 100, "soft": 5, "refine_from": 2, "local_from": 3}
    low = settings["marching"]["d_start_angstrom"] * 1.5
    return {
        **settings,
        "d_min_angstrom": low,
        "marching": {**marching, "d_start_angstrom": low},
        "matching": matching,
        "phasing": {"iterations": 20, "starts": 2},
    }
