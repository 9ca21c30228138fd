"""The forward model on a GPU, CUDA or HIP: the host's headers, compiled by CuPy when they are first used.

Structure factors and panels stay on the device from one image to the next as long as they are the same objects; what a
call returns are the device's arrays, so that background and noise can be added there.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exafel import _kernels
from exafel.arrays import AnyArray, Int32Array
from exafel.bragg.scene import BASIS_VARIABLES, SHAPES, SceneArrays, Shape
from exafel.errors import ExafelError

INCLUDE = Path(_kernels.__file__).parent / "include"
"""Folder of the kernels' headers, as installed."""

_THREADS = 128
_N_VARIABLES = len(BASIS_VARIABLES) + 6
_KEPT_ARRAYS = 16


@dataclass(frozen=True, eq=False)
class DeviceGradients:
    """Photons of listed pixels (n,) and their derivatives by `forward.VARIABLES` (18, n), on the device."""

    photons: Any
    derivatives: Any


def kernel_source(shape: Shape, *, single: bool = True) -> str:
    """Source of the kernels ``photons``, ``gradients`` and ``coefficients`` of one shape and precision."""
    return f'#include "exafel/gpu.hpp"\nEXAFEL_GPU_KERNELS({shape}, {"float" if single else "double"})\n'


def compile_options() -> tuple[str, ...]:
    """Options of NVRTC and hipRTC."""
    return ("--std=c++17", f"-I{INCLUDE}", "-DEXAFEL_ISA=device")


class GpuModel:
    """The forward model on the current device.

    Parameters
    ----------
    single
        Compute terms in single precision, which is what GPUs are made for; where a term lies is found in double.

    Raises
    ------
    ExafelError
        CuPy or a device is missing.
    """

    def __init__(self, *, single: bool = True) -> None:
        self._cupy = _cupy()
        self._single = single
        self._real = np.float32 if single else np.float64
        self._modules: dict[int, Any] = {}
        self._kept: dict[tuple[int, str], tuple[AnyArray, Any]] = {}

    def photons(self, scene: SceneArrays, image: Any = None) -> Any:
        """Photons of all pixels, panel after panel, shape (n_pixels,); added to `image` where it is given."""
        cupy = self._cupy
        sizes = np.prod(scene.panels[:, 11:13], axis=1).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(sizes)])
        if image is None:
            image = cupy.zeros(int(first[-1]), dtype=self._real)
        grid = (int(-(-sizes.max() // _THREADS)), len(sizes))
        held, packed = self._upload(scene)
        self._kernel(scene.shape, "photons")(grid, (_THREADS,), (packed, cupy.asarray(first), image))
        del held
        return image

    def upload(self, array: AnyArray) -> Any:
        """Copy an array to the device, in the model's precision."""
        return self._cupy.asarray(array.astype(self._real))

    def generator(self, seed: list[int]) -> Any:
        """Make a generator of random numbers on the device; its numbers are others than NumPy's."""
        words = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        return self._cupy.random.Generator(self._cupy.random.Philox4x3210(int(words[0])))

    def convolve(self, photons: Any, kernel: Any) -> Any:
        """Convolve one panel, shape (slow, fast), on the device; see `readout.spread`."""
        signal = importlib.import_module("cupyx.scipy.signal")
        return signal.oaconvolve(photons, kernel, mode="same").clip(0.0, None)

    def gradients(self, scene: SceneArrays, pixels: Int32Array) -> DeviceGradients:
        """Photons of listed pixels (panel, fast, slow), int32, shape (n, 3), and their derivatives.

        Raises
        ------
        ValueError
            The scene has no Jacobian.
        """
        if not len(scene.jacobian):
            raise ValueError("a scene without Jacobians has no gradients")
        cupy = self._cupy
        where = cupy.ascontiguousarray(cupy.asarray(pixels, dtype=np.int32))
        n = len(where)
        result = DeviceGradients(cupy.empty(n, self._real), cupy.empty((_N_VARIABLES, n), self._real))
        held, packed = self._upload(scene)
        arguments = (packed, where, np.int64(n), result.photons, result.derivatives)
        self._kernel(scene.shape, "gradients")((-(-n // _THREADS),), (_THREADS,), arguments)
        del held
        return result

    def coefficients(self, scene: SceneArrays, pixels: Int32Array, room: int) -> tuple[Any, Any, Any]:
        """Photons for each unit of |F|^2: number of reflections (n,), table positions and values (n, room) a pixel."""
        cupy = self._cupy
        where = cupy.ascontiguousarray(cupy.asarray(pixels, dtype=np.int32))
        n = len(where)
        result = cupy.empty(n, np.int32), cupy.zeros((n, room), np.int32), cupy.zeros((n, room), np.float64)
        held, packed = self._upload(scene)
        arguments = (packed, where, np.int64(n), np.int32(room), *result)
        self._kernel(scene.shape, "coefficients")((-(-n // _THREADS),), (_THREADS,), arguments)
        del held
        return result

    def _kernel(self, shape: int, name: str) -> Any:
        if shape not in self._modules:
            source = kernel_source(SHAPES[shape], single=self._single)
            self._modules[shape] = self._cupy.RawModule(code=source, options=compile_options())
        return self._modules[shape].get_function(name)

    def _upload(self, scene: SceneArrays) -> tuple[list[Any], Any]:
        """Device arrays of a scene, and the scene that points to them; the arrays must live as long as it is used."""
        real = self._real
        arrays = [
            self._keep("panels", scene.panels),
            self._cupy.asarray(scene.directions),
            self._cupy.asarray(scene.wave_numbers),
            self._cupy.asarray(scene.channels.astype(real)),
            self._cupy.asarray(scene.buckets),
            self._cupy.asarray(scene.bases.astype(real)),
            self._cupy.asarray(scene.blocks),
            self._cupy.asarray(scene.jacobian),
            self._keep("table", scene.table),
        ]
        packed = scene.host.packed([array.data.ptr for array in arrays], self._single)
        return arrays, self._cupy.asarray(np.frombuffer(packed, dtype=np.uint8))

    def _keep(self, name: str, array: AnyArray) -> Any:
        """Upload an array once: the same object, or a view of the same memory, is found again."""
        key = (array.__array_interface__["data"][0], name)
        if key not in self._kept:
            if len(self._kept) >= _KEPT_ARRAYS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = (array, self._cupy.asarray(array))  # holding the host's array keeps its address its own
        return self._kept[key][1]


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
        cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        raise ExafelError("no CuPy for the GPU", hint="pip install 'exafel[gpu-cuda]' or 'exafel[gpu-rocm]'") from error
    except Exception as error:
        raise ExafelError(f"no GPU that CuPy can use: {error}", hint="choose device: cpu") from error
    return cupy
