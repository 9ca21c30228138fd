"""The GPU's kernels: what their threads do, done on the host; that they compile; and that a GPU, if any, agrees."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from exafel.bragg.bases import crystal_bases, mosaic_axes
from exafel.bragg.forward import VARIABLES, bragg_gradients, structure_factor_coefficients
from exafel.bragg.gpu import INCLUDE, GpuModel, compile_options, kernel_source
from exafel.bragg.scene import SHAPES, CrystalModel, SceneArrays, SceneOptions, Shape, scene_arrays
from exafel.bragg.structure_factors import StructureFactorTable
from exafel.io.geometry import Beam, Detector, Panel, Spectrum

N = 48


def scene(shape: Shape = "gauss", n_panels: int = 2) -> SceneArrays:
    side = 0.8 * N
    panels = tuple(
        Panel(f"p{i}", [i * side - side, 18.0, -60.0], [1, 0, 0], [0, -1, 0], (0.8, 0.8), (N, N - 3 * i))
        for i in range(n_panels)
    )
    beam = Beam(1.3, spectrum=Spectrum(np.linspace(1.295, 1.305, 25), 1 + np.cos(np.arange(25.0)) ** 2))
    cell = np.array([42.0, 50.0, 61.0, 88.0, 95.0, 100.0])
    turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
    blocks, jacobian = crystal_bases(turn * np.linalg.det(turn), cell, mosaic_axes(3), spread_rad=(0.002, 0.003, 0.001))
    crystal = CrystalModel(blocks, (9.0, 10.0, 12.0), shape=shape, jacobian=jacobian)
    table = StructureFactorTable(np.random.default_rng(1).exponential(1e4, (61, 61, 61)), np.full(3, -30))
    return scene_arrays(Detector(panels), beam, crystal, table, 1e24, SceneOptions(oversample=2, cut=12.0))


def pixels_of(arrays: SceneArrays) -> np.ndarray:
    grids = [
        np.stack(np.meshgrid([panel], np.arange(int(row[11])), np.arange(int(row[12])), indexing="ij"), -1)
        for panel, row in enumerate(arrays.panels)
    ]
    return np.concatenate([grid.reshape(-1, 3) for grid in grids]).astype(np.int32)


def image_of(arrays: SceneArrays) -> np.ndarray:
    image = np.zeros(int(np.prod(arrays.panels[:, 11:13], axis=1).sum()))
    arrays.host.add_photons(image, True, False, 1)
    return image


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("real", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_a_thread_on_the_host_computes_the_same_pixel(shape: Shape, real: type, tolerance: float) -> None:
    arrays = scene(shape)
    expected = image_of(arrays)
    image = np.zeros(expected.shape, dtype=real)
    arrays.host.device_photons(image)
    assert expected.max() > 0
    assert np.abs(image - expected).max() <= tolerance * expected.max()


@pytest.mark.parametrize(("real", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_a_thread_on_the_host_computes_the_same_derivatives(real: type, tolerance: float) -> None:
    arrays = scene()
    where = pixels_of(arrays)
    expected = bragg_gradients(arrays, where)
    photons, derivatives = np.zeros(len(where), dtype=real), np.zeros((len(VARIABLES), len(where)), dtype=real)
    arrays.host.device_gradients(where, photons, derivatives)
    assert np.abs(photons - expected.photons).max() <= tolerance * expected.photons.max()
    largest = np.abs(expected.derivatives).max(axis=1, keepdims=True)
    assert largest.min() > 0
    assert (np.abs(derivatives - expected.derivatives) / largest).max() <= tolerance


def nvrtc() -> ctypes.CDLL:
    """NVIDIA's run-time compiler, from its wheel; it needs no GPU and no driver."""
    if importlib.util.find_spec("nvidia") is None:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc-cu12)")
    for folder in importlib.util.find_spec("nvidia").submodule_search_locations:
        for library in Path(folder).glob("**/libnvrtc.so.*"):
            return ctypes.CDLL(str(library))
    pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc-cu12)")


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "single"), [("gauss", True), ("square", True), ("round", False)])
def test_nvrtc_compiles_the_headers(shape: Shape, single: bool) -> None:
    compiler = nvrtc()
    program = ctypes.c_void_p()
    source = kernel_source(shape, single=single).encode()
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"bragg.cu", 0, None, None) == 0
    options = [option.encode() for option in (*compile_options(), "--gpu-architecture=compute_80")]
    failed = compiler.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    assert failed == 0, log.value.decode()
    compiler.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetPTX(program, ptx)
    for kernel in ("photons", "gradients", "coefficients"):
        assert f".visible .entry {kernel}(" in ptx.value.decode()


def compile_to_object(compiler: str, shape: Shape, folder: Path, *options: str) -> bytes:
    source = folder / "bragg.cu"
    source.write_text(kernel_source(shape))
    target = folder / "bragg.out"
    command = [compiler, "-std=c++17", f"-I{INCLUDE}", "-DEXAFEL_ISA=device", "-o", str(target), *options, str(source)]
    environment = {**os.environ, "HIP_PLATFORM": "amd"}  # hipcc would take an nvcc that it finds
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return target.read_bytes()


@pytest.mark.slow
def test_hipcc_compiles_the_headers(tmp_path: Path) -> None:
    """For the GPUs of Frontier (gfx90a), to the device's code."""
    compiler = shutil.which("hipcc")
    if compiler is None:
        pytest.skip("hipcc is not installed (Debian: apt-get install hipcc)")
    target = ("--genco", "--offload-arch=gfx90a", "-O2", "-x", "hip")
    code = compile_to_object(compiler, "gauss", tmp_path, *target)
    for kernel in (b"photons", b"gradients", b"coefficients"):
        assert kernel in code


@pytest.mark.slow
def test_nvcc_compiles_the_headers(tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not installed")
    code = compile_to_object(compiler, "gauss", tmp_path, "-cubin", "-arch=sm_80")
    assert b"gradients" in code


@pytest.fixture(scope="module")
def gpu() -> GpuModel:
    from exafel.errors import ExafelError

    try:
        return GpuModel()
    except ExafelError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gpu_makes_the_same_image(gpu: GpuModel, shape: Shape) -> None:
    arrays = scene(shape)
    expected = image_of(arrays)
    found = gpu.photons(arrays).get()
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()


@pytest.mark.gpu
def test_the_gpu_makes_the_same_derivatives(gpu: GpuModel) -> None:
    arrays = scene()
    where = pixels_of(arrays)
    expected = bragg_gradients(arrays, where)
    found = gpu.gradients(arrays, where)
    assert np.abs(found.photons.get() - expected.photons).max() <= 1e-5 * expected.photons.max()
    largest = np.abs(expected.derivatives).max(axis=1, keepdims=True)
    assert (np.abs(found.derivatives.get() - expected.derivatives) / largest).max() <= 1e-5


@pytest.mark.gpu
def test_the_gpu_makes_the_same_coefficients(gpu: GpuModel) -> None:
    arrays = scene()
    where = pixels_of(arrays)
    expected = structure_factor_coefficients(arrays, where)
    counts, index, value = (array.get() for array in gpu.coefficients(arrays, where, 16))
    assert counts.max() <= 16
    used = np.arange(16) < counts[:, None]
    table = np.zeros(expected.shape[1])
    np.add.at(table, index[used], value[used])
    total = np.asarray(expected.sum(axis=0)).ravel()
    assert np.abs(table - total).max() <= 1e-5 * total.max()
