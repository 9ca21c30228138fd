"""Shots of stage 2, packed for its kernel: pixels with their data, background, and photons for each unit of |F|^2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from scipy import sparse

from exafel import _kernels
from exafel.arrays import BoolArray, Float32Array, FloatArray, Int32Array, IntArray
from exafel.bragg.likelihood import FLOOR_PHOTONS

REFLECTION_BLOCK = 16
"""Reflections that the kernel works on at once: ``reflection_block`` of ``exafel/stage2_shots.hpp``."""

LARGEST_Z2 = 100.0
"""Bound of a pixel's Z^2 in the third of a shot's numbers: ``largest_z2`` of ``exafel/stage2_shots.hpp``."""

NEGLIGIBLE = 1e-4
"""Terms below this part of a reflection's largest in the shot are left out."""


@dataclass(frozen=True, eq=False)
class PackedShot:
    """One shot's part of `PackedShots`; fields without ``start`` have the same meaning."""

    reflection: Int32Array
    n_single: Int32Array
    data: Float32Array
    background: Float32Array
    single_k: Float32Array
    row_terms: Int32Array
    term_reflection: Int32Array
    term_k: Float32Array

    @property
    def n_pixels(self) -> int:
        """Number of pixels that meet a reflection."""
        return len(self.data)

    @property
    def n_terms(self) -> int:
        """Number of (pixel, reflection) pairs."""
        return len(self.single_k) + len(self.term_k)

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(getattr(self, item.name).nbytes for item in fields(self))


def terms_of(coefficients: sparse.csr_array) -> tuple[IntArray, IntArray, FloatArray]:
    """Pixel, reflection and coefficient of every term that is not negligible."""
    table = sparse.coo_array(coefficients)
    row, column, value = table.coords[0], table.coords[1], table.data
    largest = np.zeros(coefficients.shape[1])
    np.maximum.at(largest, column, value)
    keep = value > NEGLIGIBLE * largest[column]
    return row[keep], column[keep], value[keep]


def pack_shot(
    coefficients: sparse.csr_array, data: FloatArray, background: FloatArray, chosen: BoolArray
) -> PackedShot:
    """Pack the pixels of a shot that meet a reflection.

    Parameters
    ----------
    coefficients
        Photons of each pixel for each unit of |F|^2, columns the numbers of reflections, shape (n, n_reflections).
    data, background
        Photons, shape (n,).
    chosen
        Pixels to take, shape (n,).
    """
    row, column, value = terms_of(coefficients)
    keep = chosen[row]
    row, column, value = row[keep], column[keep], value[keep]
    terms = np.bincount(row, minlength=len(data))
    single = terms[row] == 1
    reflections, local = np.unique(column, return_inverse=True)
    n_single = np.bincount(local[single], minlength=len(reflections))
    by_size = np.argsort(-n_single, kind="stable")
    reflections, n_single = reflections[by_size], n_single[by_size]
    local = np.argsort(by_size)[local]
    singles = np.flatnonzero(single)
    singles = singles[np.lexsort((row[singles], local[singles]))][interleaved(n_single)]
    several = np.flatnonzero(~single)
    several = several[np.lexsort((local[several], row[several]))]
    rows = np.unique(row[several])
    pixels = np.concatenate([row[singles], rows])
    return PackedShot(
        reflection=reflections.astype(np.int32),
        n_single=n_single.astype(np.int32),
        data=data[pixels].astype(np.float32),
        background=np.maximum(background[pixels], FLOOR_PHOTONS).astype(np.float32),
        single_k=value[singles].astype(np.float32),
        row_terms=terms[rows].astype(np.int32),
        term_reflection=local[several].astype(np.int32),
        term_k=value[several].astype(np.float32),
    )


def interleaved(n_single: IntArray) -> IntArray:
    """Order of a shot's pixels that meet one reflection alone, from one reflection after the other to the packed one.

    Parameters
    ----------
    n_single
        Pixels of each reflection, in descending order, shape (n,).
    """
    reflection = np.repeat(np.arange(len(n_single)), n_single)
    first = np.cumsum(n_single) - n_single
    number = np.arange(len(reflection)) - first[reflection]
    return np.lexsort((reflection, number, reflection // REFLECTION_BLOCK))


@dataclass(frozen=True, eq=False)
class PackedShots:
    """Many shots, one after the other; arrays are those of ``PackedShots`` in ``exafel/stage2_shots.hpp``."""

    reflection_start: IntArray
    reflection: Int32Array
    n_single: Int32Array
    pixel_start: IntArray
    data: Float32Array
    background: Float32Array
    single_start: IntArray
    single_k: Float32Array
    row_start: IntArray
    row_terms: Int32Array
    term_start: IntArray
    term_reflection: Int32Array
    term_k: Float32Array
    _host: list[_kernels.Stage2Shots] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.pixel_start) - 1

    @property
    def n_terms(self) -> int:
        """Number of (pixel, reflection) pairs."""
        return len(self.single_k) + len(self.term_k)

    @property
    def n_bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(getattr(self, item.name).nbytes for item in fields(self) if item.name != "_host")

    @property
    def host(self) -> _kernels.Stage2Shots:
        """The shots for the host's kernel, checked once."""
        if not self._host:
            names = [item.name for item in fields(self) if item.name != "_host"]
            self._host.append(_kernels.Stage2Shots(**{name: getattr(self, name) for name in names}))
        return self._host[0]


def join_shots(shots: Sequence[PackedShot]) -> PackedShots:
    """Put shots one after the other."""

    def start(name: str) -> IntArray:
        return np.cumsum([0, *(len(getattr(shot, name)) for shot in shots)], dtype=np.int64)

    def floats(name: str) -> Float32Array:
        return np.concatenate([np.empty(0, dtype=np.float32), *(getattr(shot, name) for shot in shots)])

    def integers(name: str) -> Int32Array:
        return np.concatenate([np.empty(0, dtype=np.int32), *(getattr(shot, name) for shot in shots)])

    return PackedShots(
        reflection_start=start("reflection"),
        pixel_start=start("data"),
        single_start=start("single_k"),
        row_start=start("row_terms"),
        term_start=start("term_k"),
        reflection=integers("reflection"),
        n_single=integers("n_single"),
        data=floats("data"),
        background=floats("background"),
        single_k=floats("single_k"),
        row_terms=integers("row_terms"),
        term_reflection=integers("term_reflection"),
        term_k=floats("term_k"),
    )
