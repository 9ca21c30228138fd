"""Experiments as DIALS' ``.expt`` files (the JSON of dxtbx' ExperimentList).

Models that experiments share are written once and referred to by number. The bounds of trusted ranges are written
half a count outwards: DIALS up to 3.12 takes them as the first bad values, later versions as the last good ones, and
for counts both then mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np

from exafel.arrays import FloatArray
from exafel.errors import InputError
from exafel.io.crystal import Crystal
from exafel.io.experiment import Experiment, ExperimentList, ImageRef
from exafel.io.expt_detector import detector_from_json, detector_to_json
from exafel.io.files import atomic_write, read_json
from exafel.io.geometry import Beam, Detector

Json = dict[str, Any]


def read_expt(path: Path) -> ExperimentList:
    """Read an ``.expt`` file; models that experiments share are shared objects here too.

    Relative paths of images are taken from the folder of the file, as dxtbx does.

    Raises
    ------
    InputError
        The file is missing, is not JSON, or is not a list of experiments.
    """
    tree = read_json(path)
    try:
        return _parse(tree, path.absolute().parent)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"damaged or not a list of experiments: {reason}", where=path) from error


def _parse(tree: Any, folder: Path) -> ExperimentList:
    if not isinstance(tree, dict) or tree.get("__id__") != "ExperimentList":
        raise ValueError("it does not start as one")
    beams = [_beam_from_json(item) for item in tree["beam"]]
    detectors = [detector_from_json(item) for item in tree["detector"]]
    crystals = [_crystal_from_json(item) for item in tree.get("crystal", [])]
    scans = tree.get("scan", [])
    experiments = ExperimentList()
    for item in tree["experiment"]:
        scan = _pick(scans, item.get("scan"))
        beam, detector = _pick(beams, item["beam"]), _pick(detectors, item["detector"])
        if beam is None or detector is None:
            raise ValueError("an experiment has no beam or no detector")
        experiments.append(
            Experiment(
                identifier=str(item.get("identifier", "")),
                beam=beam,
                detector=detector,
                image=_image_from_json(_pick(tree["imageset"], item.get("imageset")), scan, folder),
                crystal=_pick(crystals, item.get("crystal")),
                profile=_pick(tree.get("profile", []), item.get("profile")),
                scaling=_pick(tree.get("scaling_model", []), item.get("scaling_model")),
            )
        )
    return experiments


def _pick(models: list[Any], number: int | None) -> Any:
    if number is None:
        return None
    if number < 0:
        raise ValueError(f"a model has the number {number}")
    return models[number]


def _vector(values: Any) -> FloatArray:
    return np.array(values, dtype=np.float64).reshape(3)


def _beam_from_json(item: Json) -> Beam:
    wavelength = item.get("wavelength")
    if wavelength is None or not float(wavelength) > 0:
        raise ValueError(f"a beam has the wavelength {wavelength}")
    return Beam(
        wavelength_angstrom=float(wavelength),
        direction=_vector(item["direction"]),
        polarization_fraction=float(item.get("polarization_fraction", 0.999)),
        polarization_normal=_vector(item.get("polarization_normal", (0, 1, 0))),
        divergence_deg=float(item.get("divergence", 0.0)),
        sigma_divergence_deg=float(item.get("sigma_divergence", 0.0)),
        flux=float(item.get("flux", 0.0)),
        transmission=float(item.get("transmission", 1.0)),
    )


def _crystal_from_json(item: Json) -> Crystal:
    half, domain = item.get("ML_half_mosaicity_deg"), item.get("ML_domain_size_ang")
    return Crystal(
        real_space=np.array([_vector(item[f"real_space_{axis}"]) for axis in "abc"]),
        space_group_hall=str(item["space_group_hall_symbol"]),
        half_mosaicity_deg=None if half is None else float(half),
        domain_size_angstrom=None if domain is None else float(domain),
    )


def _image_from_json(imageset: Json | None, scan: Json | None, folder: Path) -> ImageRef:
    if imageset is None:
        return ImageRef(Path())
    indices = imageset.get("single_file_indices")
    index = int(indices[0]) if indices else None
    if "template" not in imageset:
        return ImageRef(folder / str(imageset["images"][0]), index)
    template = str(imageset["template"])
    first = int(scan["image_range"][0]) if scan else 1
    digits = template.count("#")
    if digits:
        return ImageRef(folder / template.replace("#" * digits, f"{first:0{digits}d}"))
    return ImageRef(folder / template, first - 1 if index is None else index)


class _Table:
    """Models by number: equal ones share a number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, make: Callable[[], Any]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(make())
        return self._numbers[key]


def write_expt(path: Path, experiments: ExperimentList) -> None:
    """Write an ``.expt`` file, atomically.

    Beams are shared by experiments with the same values, detectors with the same panels, image sets by the lattices
    of one image, whose paths are written in full. Spectra are not part of the format and are left out.

    Raises
    ------
    ExafelError
        The file cannot be written.
    ValueError
        A number is not finite.
    """
    text = json.dumps(_to_json(experiments), indent=None, allow_nan=False, separators=(",", ":"))
    with atomic_write(path) as stream:
        stream.write(text.encode() + b"\n")


def _to_json(experiments: ExperimentList) -> Json:
    names = ("imageset", "beam", "detector", "goniometer", "scan", "crystal", "profile", "scaling_model")
    tables = {name: _Table() for name in names}
    fingerprints: dict[int, bytes] = {}
    listed = []
    for item in experiments:
        detector_key = fingerprints.setdefault(id(item.detector), item.detector.fingerprint())
        entry: Json = {
            "__id__": "Experiment",
            "identifier": item.identifier,
            "beam": _number_of_beam(tables["beam"], item.beam),
            "detector": tables["detector"].number(detector_key, _detector_maker(item.detector)),
        }
        if item.image.path != Path():
            entry["imageset"] = _number_of_image(tables["imageset"], item.image)
        if item.crystal is not None:
            entry["crystal"] = _number_of_crystal(tables["crystal"], item.crystal)
        for name, model in (("profile", item.profile), ("scaling_model", item.scaling)):
            if model is not None:
                entry[name] = _number_of_plain(tables[name], model)
        listed.append(entry)
    return {
        "__id__": "ExperimentList",
        "experiment": listed,
        **{name: table.items for name, table in tables.items()},
    }


def _detector_maker(detector: Detector) -> Callable[[], Json]:
    return lambda: detector_to_json(detector)


def _number_of_plain(table: _Table, model: Json) -> int:
    return table.number(json.dumps(model, sort_keys=True), lambda: model)


def _number_of_beam(table: _Table, beam: Beam) -> int:
    model = {
        "direction": beam.direction.tolist(),
        "wavelength": beam.wavelength_angstrom,
        "divergence": beam.divergence_deg,
        "sigma_divergence": beam.sigma_divergence_deg,
        "polarization_normal": beam.polarization_normal.tolist(),
        "polarization_fraction": beam.polarization_fraction,
        "flux": beam.flux,
        "transmission": beam.transmission,
    }
    return _number_of_plain(table, model)


def _number_of_image(table: _Table, image: ImageRef) -> int:
    path = str(image.path.absolute())
    model: Json = {"__id__": "ImageSet", "images": [path]}
    if image.index is not None:
        model["single_file_indices"] = [image.index]
    model |= {"mask": None, "gain": None, "pedestal": None, "dx": None, "dy": None, "params": {}}
    return table.number((path, image.index), lambda: model)


def _number_of_crystal(table: _Table, crystal: Crystal) -> int:
    model: Json = {"__id__": "crystal"}
    for axis, row in zip("abc", crystal.real_space.tolist(), strict=True):
        model[f"real_space_{axis}"] = row
    model["space_group_hall_symbol"] = crystal.space_group_hall
    if crystal.half_mosaicity_deg is not None and crystal.domain_size_angstrom is not None:
        model["ML_half_mosaicity_deg"] = crystal.half_mosaicity_deg
        model["ML_domain_size_ang"] = crystal.domain_size_angstrom
    return table.number(id(crystal), lambda: model)
