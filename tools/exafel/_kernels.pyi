"""Compiled kernels."""

from exafel.arrays import Float32Array, FloatArray, Int32Array, IntArray

def isa() -> str: ...

# the diffraction forward model (bind_bragg.cpp)
def add_bragg(
    image: FloatArray,
    panels: FloatArray,
    beam_direction: FloatArray,
    polarization_axis: FloatArray,
    polarization: float,
    wave_numbers: FloatArray,
    weights: FloatArray,
    blocks: FloatArray,
    n_cells: FloatArray,
    f_squared: FloatArray,
    first_hkl: IntArray,
    scale: float,
    oversample: int,
    cut: float,
    all_pixels: bool,
) -> int: ...
def pixel_factors(
    omega_p: FloatArray,
    cos_two_theta: FloatArray,
    panels: FloatArray,
    beam_direction: FloatArray,
    polarization_axis: FloatArray,
    polarization: float,
) -> None: ...
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
