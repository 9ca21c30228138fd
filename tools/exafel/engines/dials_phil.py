"""Our parameters in the words of DIALS: the phil file for dials.stills_process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exafel.config.stills import StillsConfig
from exafel.io.experiment import ImageRef

_SPOTS = "spotfinder.threshold.dispersion"
_FILTER = "spotfinder.filter"

EQUIVALENTS: dict[str, tuple[str, ...]] = {
    "geometry.reference": ("input.reference_geometry",),
    "geometry.wavelength_angstrom": ("geometry.beam.wavelength",),
    "spotfinding.algorithm": ("spotfinder.threshold.algorithm",),
    "spotfinding.kernel_size": (f"{_SPOTS}.kernel_size",),
    "spotfinding.sigma_background": (f"{_SPOTS}.sigma_background",),
    "spotfinding.sigma_strong": (f"{_SPOTS}.sigma_strong",),
    "spotfinding.global_threshold": (f"{_SPOTS}.global_threshold",),
    "spotfinding.min_local": (f"{_SPOTS}.min_local",),
    "spotfinding.gain": (f"{_SPOTS}.gain", "integration.summation.detector_gain"),
    "spotfinding.min_spot_size": (f"{_FILTER}.min_spot_size",),
    "spotfinding.max_spot_size": (f"{_FILTER}.max_spot_size",),
    "spotfinding.max_separation": (f"{_FILTER}.max_separation",),
    "spotfinding.max_strong_pixel_fraction": (f"{_FILTER}.max_strong_pixel_fraction",),
    "spotfinding.d_min": (f"{_FILTER}.d_min",),
    "spotfinding.d_max": (f"{_FILTER}.d_max",),
    "spotfinding.ice_ring_width": (f"{_FILTER}.ice_rings.width",),
    "spotfinding.min_spots": ("dispatch.hit_finder.minimum_number_of_reflections",),
    "indexing.unit_cell": ("indexing.known_symmetry.unit_cell",),
    "indexing.space_group": ("indexing.known_symmetry.space_group",),
    "indexing.hkl_tolerance": ("indexing.index_assignment.simple.hkl_tolerance",),
    "indexing.cell_tolerance": ("indexing.known_symmetry.relative_length_tolerance",),
    "indexing.max_lattices": ("indexing.multiple_lattice_search.max_lattices",),
    "integration.d_min": ("prediction.d_min",),
    "integration.gain": ("integration.summation.detector_gain",),
    "integration.min_background_pixels": ("integration.background.simple.min_pixels",),
    "integration.outlier_sigma": ("integration.background.simple.outlier.plane.n_sigma",),
    "integration.n_sigma": ("profile.gaussian_rs.parameters.n_sigma",),
    "integration.significance_filter.n_bins": ("significance_filter.n_bins",),
    "integration.significance_filter.isigi_cutoff": ("significance_filter.isigi_cutoff",),
}
"""Keys of `StillsConfig` and the parameters of dials.stills_process that mean the same."""

_ELSEWHERE = ("engine", "dials", "keep_spots_of")  # said by choosing the engine, passed on as is, the step's business

_ALWAYS = {
    # every image is a shot of its own; files of one name in two folders are told apart only so
    "dispatch.pre_import": True,
    "mp.method": "multiprocessing",
    "mp.nproc": 1,
    "output.composite_output": True,
    "output.strong_filename": "%s_strong.refl",
    "output.shoeboxes": False,
    "output.integration_pickle": None,
}


def phil_text(config: StillsConfig, *, file_list: str, tags: Iterable[str] = ()) -> str:
    """Write the phil file for one run.

    Parameters
    ----------
    config
        Parameters of the stills step. ``config.dials`` is put in last, so it overrides the mapped ones.
    file_list
        Text file that names the image files, seen from the folder that the program runs in.
    tags
        DIALS' names of the images to process; none for all.
    """
    values = dict(_leaves(config.model_dump()))
    phil: dict[str, Any] = dict(_ALWAYS)
    phil["input.file_list"] = file_list
    for key, names in EQUIVALENTS.items():
        if values.get(key) is not None:
            phil.update(dict.fromkeys(names, values[key]))
    if config.geometry.reference is not None:  # the program runs in another folder
        phil["input.reference_geometry"] = str(Path(config.geometry.reference).resolve())
    phil["significance_filter.enable"] = config.integration.significance_filter is not None
    phil[f"{_FILTER}.ice_rings.filter"] = values["spotfinding.ice_ring_width"] is not None
    phil["indexing.stills.refine_candidates_with_known_symmetry"] = True
    if config.spotfinding.algorithm == "radial":  # DIALS' own choice for that is another algorithm
        del phil["spotfinder.threshold.algorithm"]
    phil.update(config.dials)
    entries = [*phil.items(), *(("input.image_tag", tag) for tag in tags)]
    return "".join(f"{name} = {_value(value)}\n" for name, value in entries)


def without_equivalent(config: StillsConfig) -> list[str]:
    """Keys that were set to something else than their default and that DIALS has no parameter for."""
    default = dict(_leaves(StillsConfig().model_dump()))
    foreign = {"spotfinding.algorithm"} if config.spotfinding.algorithm == "radial" else set()
    return [
        key
        for key, value in _leaves(config.model_dump())
        if (key not in EQUIVALENTS or key in foreign) and not key.startswith(_ELSEWHERE) and value != default.get(key)
    ]


@dataclass(frozen=True)
class Selection:
    """Which images DIALS is to process.

    Parameters
    ----------
    files
        The files that hold the shots wanted.
    tags
        DIALS' name of each shot wanted, and the shot's number.
    whole
        The files hold no other shots.
    """

    files: tuple[Path, ...]
    tags: dict[str, int]
    whole: bool


def select_images(images: Sequence[ImageRef], shots: Iterable[int]) -> Selection:
    """Name shots as dials.stills_process does.

    It sorts its files, counts the images in them, and calls an image by its file's name without the last suffix; where
    several images share that name, the image's number among all of them is put behind it.

    Parameters
    ----------
    images
        Every shot of the run.
    shots
        Numbers of the shots wanted.
    """
    wanted = set(shots)
    files = sorted({images[shot].path for shot in wanted}, key=str)
    held = set(files)
    order = sorted(
        (shot for shot, image in enumerate(images) if image.path in held),
        key=lambda shot: (str(images[shot].path), images[shot].index or 0),
    )
    count = Counter(images[shot].path.stem for shot in order)
    tags: dict[str, int] = {}
    for number, shot in enumerate(order):
        stem = images[shot].path.stem
        if shot in wanted:
            tags[stem if count[stem] == 1 else f"{stem}_{number:05d}"] = shot
    return Selection(tuple(files), tags, whole=len(order) == len(wanted))


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and prefix + key not in _ELSEWHERE:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _value(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return " ".join(str(item) for item in value)
    return str(value)
