"""Which pixels of a shot can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.errors import FrameError
from exafel.io.geometry import Detector


def good_masks(frames: Sequence[AnyArray], detector: Detector, *others: Sequence[BoolArray] | None) -> list[BoolArray]:
    """Combine trusted ranges, masked rectangles and any other masks.

    Parameters
    ----------
    frames
        Pixels, one array of shape (slow, fast) a panel.
    others
        Further masks, one array a panel, True where good; None for those that do not exist.

    Returns
    -------
    list
        One array a panel in C order, True where a pixel is good.

    Raises
    ------
    FrameError
        A frame or mask does not have the shape of its panel.
    """
    masks = []
    given = [other for other in others if other is not None]
    if any(len(panels) != len(detector) for panels in [frames, *given]):
        raise FrameError(f"the frame has {len(frames)} panels, the detector {len(detector)}")
    for number, (panel, frame) in enumerate(zip(detector.panels, frames, strict=True)):
        if any(array.shape != panel.shape for array in [frame, *(other[number] for other in given)]):
            raise FrameError(f"panel {panel.name}: pixels or mask are not of shape {panel.shape} (slow, fast)")
        mask = np.ascontiguousarray(panel.trusted_mask(frame))  # a comparison keeps the order of a transposed frame
        for other in given:
            mask &= other[number]
        masks.append(mask)
    return masks
