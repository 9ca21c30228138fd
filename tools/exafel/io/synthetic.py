"""Frames held in memory, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.errors import FrameError
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam, Detector


class SyntheticSource:
    """Arrays in memory as a frame source.

    Parameters
    ----------
    detector
        The detector of all frames.
    beams
        One beam for all frames, or one a frame.
    frames
        One list of arrays (slow, fast), one a panel, a frame; None for a frame that cannot be read.
    masks
        Good pixels, one array a panel.
    name
        Name of the file that the frames pretend to be from.

    Raises
    ------
    ValueError
        The numbers of beams or frames, or the shapes of the arrays, do not fit.
    """

    def __init__(
        self,
        detector: Detector,
        beams: Beam | Sequence[Beam],
        frames: Sequence[Sequence[AnyArray] | None],
        *,
        masks: Sequence[BoolArray] | None = None,
        name: str = "synthetic",
    ) -> None:
        self._detector = detector
        self._beams = [beams] * len(frames) if isinstance(beams, Beam) else list(beams)
        self._frames = list(frames)
        self._masks = None if masks is None else list(masks)
        self._name = name
        shapes = [panel.shape for panel in detector.panels]
        arrays = [frame for frame in (*self._frames, self._masks) if frame is not None]
        if len(self._beams) != len(self._frames):
            raise ValueError(f"{len(self._beams)} beams for {len(self._frames)} frames")
        if any([np.shape(data) for data in frame] != shapes for frame in arrays):
            raise ValueError("the arrays do not have the shapes of the panels")

    def __len__(self) -> int:
        return len(self._frames)

    def detector(self, index: int) -> Detector:
        """Return the detector."""
        self._check(index)
        return self._detector

    def beam(self, index: int) -> Beam:
        """Return the beam of frame `index`."""
        return self._beams[self._check(index)]

    def frame(self, index: int) -> list[AnyArray]:
        """Return copies of the arrays of frame `index`.

        Raises
        ------
        FrameError
            The frame was given as None.
        """
        arrays = self._frames[self._check(index)]
        if arrays is None:
            raise FrameError("the frame is damaged", where=f"{self._name}[{index}]")
        return [np.array(data) for data in arrays]

    def mask(self, index: int) -> list[BoolArray] | None:
        """Return the good pixels; None where none were given."""
        self._check(index)
        return self._masks

    def image(self, index: int) -> ImageRef:
        """Return the name and the number of the frame."""
        return ImageRef(Path(self._name), self._check(index))

    def _check(self, index: int) -> int:
        if not 0 <= index < len(self._frames):
            raise IndexError(f"frame {index} of {len(self._frames)}")
        return index
