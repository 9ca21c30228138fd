from exafel.arrays import Int32Array

def isa() -> str: ...

# io
def decode_cbf_packed(
    data: bytes,
    shape: tuple[int, int, int],
    *,
    version2: bool = False,
    averaged: bool = True,
    sections_correlated: bool = True,
) -> Int32Array: ...
def decode_cbf_byte_offset(data: bytes, shape: tuple[int, int, int]) -> Int32Array: ...
"""Compiled kernels."""

from exafel.arrays import Float32Array

def isa() -> str: ...

# indexing (bind_indexing.cpp)
def score_vectors(vectors: Float32Array, rlp: Float32Array, width: float) -> Float32Array: ...

# merging
def exact_sums(values: FloatArray, groups: IntArray, n_groups: int) -> IntArray: ...
def ev11_sums(
    squared: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    bins: IntArray,
    n_bins: int,
    *,
    sdb: float,
    sdadd: float,
    floor: float,
) -> IntArray: ...
