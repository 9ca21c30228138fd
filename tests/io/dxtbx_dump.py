"""Run by the Python of DIALS: writes what dxtbx makes of image and experiment files as JSON on standard output."""

import hashlib
import json
import sys

import dxtbx
import numpy as np
from dxtbx.model.experiment_list import ExperimentListFactory

GRID = (0.0, 0.31, 0.5, 0.77, 1.0)


def describe_panel(panel):
    strategy = panel.get_px_mm_strategy()
    parallax = hasattr(strategy, "mu")
    fast, slow = panel.get_image_size()
    grid = [(x * fast, y * slow) for x in GRID for y in GRID]
    lab = [panel.get_lab_coord(panel.pixel_to_millimeter(xy)) for xy in grid]
    # Rays to points of the bare plane: where they meet pixels is the other direction of the parallax correction.
    size = panel.get_pixel_size()
    rays = [panel.get_lab_coord((x * size[0], y * size[1])) for x, y in grid]
    return {
        "name": panel.get_name(),
        "origin": panel.get_origin(),
        "fast": panel.get_fast_axis(),
        "slow": panel.get_slow_axis(),
        "pixel_size": size,
        "image_size": panel.get_image_size(),
        "trusted_range": panel.get_trusted_range(),
        "thickness": panel.get_thickness(),
        "material": panel.get_material(),
        "mu": panel.get_mu(),
        "gain": panel.get_gain(),
        "mask": sorted(panel.get_mask()),
        "parallax": [strategy.mu(), strategy.t0()] if parallax else None,
        "grid": grid,
        "lab": lab,
        "rays": rays,
        "ray_px": [panel.get_ray_intersection_px(ray) for ray in rays],
    }


def describe_beam(beam):
    return {
        "wavelength": beam.get_wavelength(),
        "direction": beam.get_sample_to_source_direction(),
        "polarization_fraction": beam.get_polarization_fraction(),
        "polarization_normal": beam.get_polarization_normal(),
        "flux": beam.get_flux(),
    }


def describe_pixels(imageset, index):
    raw = imageset.get_raw_data(index)
    mask = imageset.get_mask(index)
    return [
        {
            "sha256": hashlib.sha256(data.as_numpy_array().astype("<i4").tobytes()).hexdigest(),
            "shape": list(data.focus()),
            "good": int(flag.count(True)),
        }
        for data, flag in zip(raw, mask, strict=True)
    ]


def describe_image(path, indices):
    imageset = dxtbx.load(path).get_imageset([path])
    frames = [
        {
            "index": index,
            "beam": describe_beam(imageset.get_beam(index)),
            "panels": [describe_panel(panel) for panel in imageset.get_detector(index)],
            "pixels": describe_pixels(imageset, index),
        }
        for index in indices
    ]
    return {"n": len(imageset), "frames": frames}


def describe_experiments(path):
    experiments = ExperimentListFactory.from_json_file(path, check_format=False)
    described = []
    detectors = experiments.detectors()
    for experiment in experiments:
        crystal = experiment.crystal
        described.append(
            {
                "identifier": experiment.identifier,
                "beam": describe_beam(experiment.beam),
                "detector": detectors.index(experiment.detector),
                "crystal": crystal
                and {
                    "A": crystal.get_A(),
                    "cell": crystal.get_unit_cell().parameters(),
                    "hall": crystal.get_space_group().type().hall_symbol(),
                    "half_mosaicity_deg": crystal.get_half_mosaicity_deg()
                    if hasattr(crystal, "get_half_mosaicity_deg")
                    else None,
                    "domain_size": crystal.get_domain_size_ang() if hasattr(crystal, "get_domain_size_ang") else None,
                },
                "paths": list(experiment.imageset.paths()) if experiment.imageset else [],
                "indices": list(experiment.imageset.indices()) if experiment.imageset else [],
            }
        )
    panels = [[describe_panel(panel) for panel in detector] for detector in detectors]
    return {"experiments": described, "detectors": panels}


def describe_reflections(path):
    from dials.array_family import flex as dials_flex

    table = dials_flex.reflection_table.from_file(path)
    columns = {}
    for name in list(table.keys()):
        column = table[name]
        if hasattr(column, "as_numpy_array"):
            values = column.as_numpy_array().astype(float)
        else:
            values = np.array(list(column), dtype=float) if name != "shoebox" else np.zeros(0)
        columns[name] = {
            "type": type(column).__name__,
            "sum": float(np.nansum(values)),
            "abs": float(np.nansum(np.abs(values))),
        }
    identifiers = table.experiment_identifiers()
    return {
        "rows": table.size(),
        "columns": columns,
        "identifiers": dict(zip(map(str, identifiers.keys()), identifiers.values(), strict=True)),
    }


def describe_flags():
    from dials.array_family import flex as dials_flex

    return {name: int(value) for name, value in dials_flex.reflection_table.flags.names.items()}


def main():
    request = json.load(sys.stdin)
    answer = {"flags": describe_flags()} if request.get("flags") else {}
    for path, indices in request.get("images", {}).items():
        answer[path] = describe_image(path, indices)
    for path in request.get("experiments", []):
        answer[path] = describe_experiments(path)
    for path in request.get("reflections", []):
        answer[path] = describe_reflections(path)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
