"""Pixels in the types that the compiled kernels take."""

from __future__ import annotations

import numpy as np

from exafel.arrays import AnyArray


def kernel_pixels(frame: AnyArray) -> AnyArray:
    """Pixels as uint16, int32, float32 or float64 in C order, without a copy where that can be."""
    frame = np.ascontiguousarray(frame)
    if frame.dtype == np.uint32:
        return frame.view(np.int32)  # above 2^31 there are only marks of bad pixels, which the masks exclude
    if frame.dtype in (np.uint16, np.int32, np.float32, np.float64):
        return frame
    small = frame.dtype.itemsize < 4 and not np.issubdtype(frame.dtype, np.floating)
    return frame.astype(np.int32 if small else np.float64)
