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
