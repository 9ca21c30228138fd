"""Maps in MRC2014 files (Cheng et al. 2015, J. Struct. Biol. 192, 146)."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np

from exafel.arrays import AnyArray, Float32Array
from exafel.errors import ExafelError, InputError


def write_mrc(path: Path, volume: AnyArray, voxel_angstrom: float) -> None:
    """Write a volume, indexed x, y, z, with its origin in the middle; the file's axes are z, y, x.

    Raises
    ------
    ExafelError
        The disk is full or the folder cannot be written.
    """
    data = np.ascontiguousarray(np.asarray(volume, dtype=np.float32).transpose(2, 1, 0))
    part = path.with_suffix(".part")
    try:
        with mrcfile.new(part, overwrite=True) as mrc:
            mrc.set_data(data)
            mrc.voxel_size = voxel_angstrom
            mrc.nstart = tuple(-(n // 2) for n in volume.shape)
        part.replace(path)
    except OSError as error:
        raise ExafelError(f"cannot write: {error.strerror or error}", where=path) from error
    finally:
        part.unlink(missing_ok=True)


def read_mrc(path: Path) -> tuple[Float32Array, float]:
    """Read a volume, indexed x, y, z, and its voxel's edge in angstrom.

    Raises
    ------
    InputError
        The file is missing or no MRC file.
    """
    try:
        with mrcfile.open(path, mode="r") as mrc:
            return np.asarray(mrc.data, dtype=np.float32).transpose(2, 1, 0), float(mrc.voxel_size.x)
    except (OSError, ValueError) as error:
        raise InputError(f"not a map: {error}", where=path) from error
