"""Compiled kernels."""

from exafel.arrays import AnyArray, BoolArray, Float32Array, FloatArray, Int32Array, IntArray

def isa() -> str: ...

# the diffraction forward model (bind_bragg.cpp)
class BraggScene:
    def __init__(
        self,
        panels: FloatArray,
        directions: FloatArray,
        beam: FloatArray,
        polarization_axis: FloatArray,
        polarization: float,
        wave_numbers: FloatArray,
        centre: float,
        channels: FloatArray,
        buckets: Int32Array,
        bases: FloatArray,
        blocks: FloatArray,
        jacobian: FloatArray,
        mean_block: FloatArray,
        block_slack: FloatArray,
        n_cells: FloatArray,
        table: FloatArray,
        first_hkl: IntArray,
        shape: int,
        scale: float,
        oversample: int,
        n_layers: int,
        limit: float,
    ) -> None: ...
    def add_photons(self, image: FloatArray, all_pixels: bool, single: bool, threads: int) -> int: ...
    def gradients(
        self, pixels: Int32Array, photons: FloatArray, derivatives: FloatArray, single: bool, threads: int
    ) -> int: ...
    def coefficients(
        self, pixels: Int32Array, counts: Int32Array, index: Int32Array, value: FloatArray, single: bool, threads: int
    ) -> int: ...
    def packed(self, pointers: list[int], single: bool) -> bytes: ...
    def device_photons(self, image: AnyArray) -> None: ...
    def device_gradients(self, pixels: Int32Array, photons: AnyArray, derivatives: AnyArray) -> None: ...
    def pixel_factors(self, omega_p: FloatArray, cos_two_theta: FloatArray) -> None: ...

def crystal_blocks(
    turns: FloatArray,
    orientation: FloatArray,
    cell: FloatArray,
    spread: FloatArray,
    axes: FloatArray,
    blocks: FloatArray,
    jacobian: FloatArray,
) -> None: ...
def shape_limit(shape: int, cut: float) -> float: ...

# io (bind_io.cpp)
def decode_cbf_packed(
    data: bytes,
    shape: tuple[int, int, int],
    *,
    version2: bool = False,
    averaged: bool = True,
    sections_correlated: bool = True,
) -> Int32Array: ...
def decompress_bzip2(data: bytes) -> bytes: ...

# spot finding
def strong_pixels(
    image: AnyArray,
    mask: BoolArray,
    *,
    kernel_fast: int,
    kernel_slow: int,
    sigma_background: float,
    sigma_strong: float,
    global_threshold: float,
    min_count: int,
    gain: float,
    extended: bool,
) -> IntArray: ...
def ring_sums(
    image: AnyArray,
    mask: BoolArray,
    ring: AnyArray,
    limit: Float32Array,
    sums: FloatArray,
    row_step: int,
) -> None: ...
def pixels_above_rings(image: AnyArray, mask: BoolArray, ring: AnyArray, limit: Float32Array) -> IntArray: ...
def spots_from_pixels(
    image: AnyArray,
    mask: BoolArray,
    found: IntArray,
    *,
    corners: bool,
    min_pixels: int,
    max_pixels: int,
    margin: int,
    gain: float,
    trusted_maximum: float,
) -> dict[str, AnyArray]: ...

# prediction and integration
def reflections_near_sphere(
    A: FloatArray,
    s0: FloatArray,
    *,
    d_min: float,
    half_mosaicity_rad: float,
    domain_size: float,
    half_bandwidth: float,
) -> Int32Array: ...
def integrate_panel(
    image: AnyArray,
    mask: BoolArray,
    shapes: FloatArray,
    *,
    gain: float,
    outlier_sigma: float,
    max_rejections: int,
    min_background: int,
    gap: float,
    background: float,
    min_width_px: float,
    profile_sigma: float,
) -> dict[str, AnyArray]: ...

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
def postrefine_normal(
    parameters: FloatArray,
    s0: FloatArray,
    nodes: FloatArray,
    observed: FloatArray,
    reference: FloatArray,
    weight: FloatArray,
) -> tuple[float, FloatArray, FloatArray]: ...
def still_factors(parameters: FloatArray, s0: FloatArray, nodes: FloatArray) -> tuple[FloatArray, FloatArray]: ...
