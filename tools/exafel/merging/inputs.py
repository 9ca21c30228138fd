"""Which files are merged, and which rank reads which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exafel.config.merge import InputConfig, Intensities
from exafel.errors import InputError
from exafel.io.experiment import Experiment
from exafel.io.expt import read_expt
from exafel.io.manifest import MANIFEST_NAME, read_manifest, verify_containers
from exafel.io.refl import read_refl
from exafel.io.reflections import ReflectionTable
from exafel.merging.lattices import ESTIMATES, split_lattices


@dataclass(frozen=True)
class Pair:
    """An experiment file and its reflection file."""

    expt: Path
    refl: Path


@dataclass(frozen=True)
class Share:
    """The part of a pair of files that a rank reads: lattice numbers part, part + n_parts, ..."""

    pair: Pair
    part: int = 0
    n_parts: int = 1


def find_pairs(paths: Sequence[Path], config: InputConfig) -> list[Pair]:
    """Find the pairs of files in folders of the stills step, in plain folders, and among files given by name.

    Raises
    ------
    InputError
        A path does not exist, holds nothing to merge, or an experiment file has no reflection file.
    """
    pairs: list[Pair] = []
    for path in paths:
        found = _pairs_at(path, config)
        if not found:
            raise InputError(
                f"no integrated lattices: no manifest of stills, and no file that ends in {config.experiments_suffix}",
                where=path,
                hint="other names: merge.input.experiments_suffix and merge.input.reflections_suffix",
            )
        pairs.extend(found)
    for pair in pairs:
        if not pair.refl.is_file():
            raise InputError("its reflection file is missing", where=pair.expt, hint=f"expected {pair.refl.name}")
    return list(dict.fromkeys(pairs))


def _pairs_at(path: Path, config: InputConfig) -> list[Pair]:
    if (path / MANIFEST_NAME).is_file():
        manifest = read_manifest(path)
        verify_containers(path, manifest)
        expt, refl = manifest.files(path, "expt"), manifest.files(path, "refl")
        return [Pair(first, second) for first, second in zip(expt, refl, strict=True)]
    if path.is_dir():
        files = sorted(path.glob(f"*{config.experiments_suffix}"))
    elif path.is_file():
        files = [path]
    else:
        raise InputError("no such file or folder", where=path)
    return [Pair(file, _partner(file, config)) for file in files if file.suffix != ".refl"]


def _partner(expt: Path, config: InputConfig) -> Path:
    if expt.name.endswith(config.experiments_suffix):
        return expt.with_name(expt.name.removesuffix(config.experiments_suffix) + config.reflections_suffix)
    return expt.with_suffix(".refl")


def shares(pairs: Sequence[Pair], rank: int, size: int) -> list[Share]:
    """Files, or parts of files where there are fewer files than ranks, that a rank reads."""
    n_parts = max(1, size // max(len(pairs), 1))
    everything = [Share(pair, part, n_parts) for pair in pairs for part in range(n_parts)]
    return everything[rank::size]


def read_lattices(share: Share, intensities: Intensities) -> Iterator[tuple[Experiment, ReflectionTable]]:
    """Yield the lattices of a share with their usable reflections.

    Raises
    ------
    InputError
        A file is damaged, or the two do not belong together.
    """
    experiments, table = read_expt(share.pair.expt), read_refl(share.pair.refl, ESTIMATES[intensities].columns)
    try:
        yield from split_lattices(experiments, table, share.part, share.n_parts, intensities)
    except InputError as error:
        raise InputError(error.what, where=error.where or share.pair.refl, hint=error.hint) from error


def read_experiments(share: Share) -> list[Experiment]:
    """Return the experiments of a share, without their reflections."""
    return list(read_expt(share.pair.expt))[share.part :: share.n_parts]
