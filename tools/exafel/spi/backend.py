"""Where arrays live and who transforms them: NumPy, SciPy and FINUFFT on processors, CuPy and cuFINUFFT on GPUs.

Numerical code of this room takes a `Backend` and uses ``backend.xp`` for arrays (the Python array API's functions that
NumPy and CuPy share), so that one code runs on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from exafel.arrays import AnyArray, DeviceArray
from exafel.errors import ConfigError

EPS = 1e-4
"""Relative error asked of non-uniform transforms: FINUFFT in single precision does not do much better."""


class Nufft(Protocol):
    """Non-uniform FFTs in three dimensions between a cube of modes and points in radians (shape (3, n), within ±π).

    Modes are centred: index i of a cube of side m stands for frequency i - m // 2. Both have exp(+i x·k).
    """

    def type1(self, points: AnyArray, strengths: AnyArray, m: int) -> DeviceArray:
        """Sum strengths at points into modes, complex, shape (m, m, m)."""
        ...

    def type2(self, points: AnyArray, modes: AnyArray) -> DeviceArray:
        """Evaluate modes at points, complex, shape (n,)."""
        ...


class FinufftTransforms:
    """FINUFFT (Barnett, Magland & af Klinteberg 2019, SIAM J. Sci. Comput. 41, C479)."""

    def __init__(self, threads: int, eps: float = EPS) -> None:
        self._options = {"eps": eps, "isign": 1, "nthreads": threads, "upsampfac": 1.25}

    def type1(self, points: AnyArray, strengths: AnyArray, m: int) -> DeviceArray:
        """Sum strengths at points into modes."""
        import finufft

        return np.asarray(finufft.nufft3d1(*points, strengths, (m, m, m), **self._options))

    def type2(self, points: AnyArray, modes: AnyArray) -> DeviceArray:
        """Evaluate modes at points."""
        import finufft

        return np.asarray(finufft.nufft3d2(*points, np.ascontiguousarray(modes), **self._options))


class CufinufftTransforms:
    """cuFINUFFT (Shih et al. 2021, PDSEC): the same on a GPU."""

    def __init__(self, eps: float = EPS) -> None:
        self._library: Any = import_module("cufinufft")
        self._cupy: Any = import_module("cupy")
        self._options = {"eps": eps, "isign": 1, "gpu_method": 1}

    def type1(self, points: AnyArray, strengths: AnyArray, m: int) -> DeviceArray:
        """Sum strengths at points into modes."""
        return self._library.nufft3d1(*points, strengths, (m, m, m), **self._options)

    def type2(self, points: AnyArray, modes: AnyArray) -> DeviceArray:
        """Evaluate modes at points."""
        return self._library.nufft3d2(*points, self._cupy.ascontiguousarray(modes), **self._options)


@dataclass(frozen=True)
class Backend:
    """Arrays, FFTs and non-uniform FFTs of one kind of device.

    Parameters
    ----------
    xp
        ``numpy`` or ``cupy``.
    fft
        Module with ``rfftn`` and ``irfftn`` that keep single precision.
    fft_options
        Keyword arguments of its functions.
    """

    name: str
    xp: ModuleType
    fft: ModuleType
    nufft: Nufft
    fft_options: dict[str, Any]

    def rfftn(self, x: AnyArray) -> DeviceArray:
        """FFT of a real cube."""
        return self.fft.rfftn(x, **self.fft_options)

    def irfftn(self, x: AnyArray, m: int) -> DeviceArray:
        """Real cube of side `m` whose FFT is given."""
        return self.fft.irfftn(x, s=(m, m, m), **self.fft_options)

    def irfftn_of_scratch(self, x: AnyArray, m: int) -> DeviceArray:
        """Return the same as `irfftn`, where `x` is not needed any more: on processors two of the axes are done in it.

        A new array of this size costs more in page faults than its transform.
        """
        if self.name != "cpu":
            return self.irfftn(x, m)
        half = self.fft.ifftn(x, axes=(0, 1), overwrite_x=True, **self.fft_options)
        return self.fft.irfft(half, n=m, axis=2, **self.fft_options)

    def array(self, x: Any, dtype: Any = np.float32) -> DeviceArray:
        """Return an array of this device."""
        return self.xp.asarray(x, dtype=dtype)

    def host(self, x: AnyArray) -> DeviceArray:
        """Return an array of NumPy."""
        return x.get() if hasattr(x, "get") else np.asarray(x)


def cpu_backend(threads: int = 1) -> Backend:
    """Return the back-end of processors; `threads` are those of one rank, of matrix products too."""
    threadpool_limits(threads, "blas")
    return Backend("cpu", np, import_module("scipy.fft"), FinufftTransforms(threads), {"workers": threads})


def gpu_backend() -> Backend:
    """Return the back-end of a GPU: cuFINUFFT where it is installed, else the gridding of `exafel.spi.gridding`.

    Raises
    ------
    ConfigError
        CuPy is not installed.
    """
    if find_spec("cupy") is None:
        raise ConfigError("no CuPy here", where="backend", hint="pip install 'exafel[gpu-cuda]', or backend: cpu")
    cupy = import_module("cupy")
    if find_spec("cufinufft") is not None:
        nufft: Nufft = CufinufftTransforms()
    else:
        from exafel.spi.gridding import GriddingTransforms

        nufft = GriddingTransforms(cupy, cupy.fft)
    return Backend("gpu", cupy, import_module("cupy.fft"), nufft, {})


def backend_of(name: str, threads: int = 1) -> Backend:
    """Return the back-end of a name: ``cpu`` or ``gpu``."""
    return gpu_backend() if name == "gpu" else cpu_backend(threads)
