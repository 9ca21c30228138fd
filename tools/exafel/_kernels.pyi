"""Compiled kernels."""

from exafel.arrays import Float32Array

def isa() -> str: ...

# indexing (bind_indexing.cpp)
def score_vectors(vectors: Float32Array, rlp: Float32Array, width: float) -> Float32Array: ...
