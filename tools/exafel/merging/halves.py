"""Which half data set a lattice belongs to, in the split that is reported and in random ones."""

from __future__ import annotations

import hashlib
import re

import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.config.merge import HalvesConfig, HashHalvesConfig, ListedHalvesConfig
from exafel.errors import InputError
from exafel.io.experiment import Experiment


def in_odd_half(experiment: Experiment, config: HalvesConfig) -> bool:
    """Whether a lattice is in the odd half; it depends on the lattice alone.

    By hash, it is the lowest bit of the SHA-256 of the seed and the experiment identifier, so that the halves are the
    same in every run. By image number, odd numbers make the odd half.

    Raises
    ------
    InputError
        The method needs an image number and the image has none.
    """
    if isinstance(config, HashHalvesConfig):
        name = experiment.identifier or experiment.image.label  # files of old DIALS versions have no identifiers
        return bool(hashlib.sha256(f"{config.seed}\0{name}".encode()).digest()[-1] & 1)
    if isinstance(config, ListedHalvesConfig):
        return experiment.identifier in config.odd
    if experiment.image.index is not None:
        return bool(experiment.image.index & 1)
    digits = re.findall(r"\d+", experiment.image.path.stem)
    if not digits:
        raise InputError(
            "no number in the image's name, so it is neither odd nor even",
            where=experiment.image.path,
            hint="set merge.statistics.halves.method to hash",
        )
    return bool(int(digits[-1]) & 1)


def random_splits(digests: AnyArray, n_splits: int) -> BoolArray:
    """Whether each lattice is in the one half of each of several random splits, shape (n_splits, n).

    A lattice's halves are bits of its digest: they depend on it alone.

    Parameters
    ----------
    digests
        Unsigned integers, shape (n, 2).
    n_splits
        Number of splits, at most 64.
    """
    bits = np.arange(n_splits, dtype=np.uint64)
    return (digests[None, :, 1] >> bits[:, None] & np.uint64(1)).astype(bool)
