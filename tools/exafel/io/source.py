"""The seam between image files and the steps: a source of frames."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from exafel.arrays import AnyArray, BoolArray
from exafel.io.experiment import ImageRef
from exafel.io.geometry import Beam, Detector


@runtime_checkable
class FrameSource(Protocol):
    """Frames by number. Opening a source reads headers only; a frame's pixels are read when asked for.

    A source can be pickled (ranks re-open their files), and reading frame i never depends on what was read before.
    """

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def detector(self, index: int) -> Detector:
        """Return the detector of frame `index`; the same object for frames that share it."""
        ...

    def beam(self, index: int) -> Beam:
        """Return the beam of frame `index`: its wavelength and, where recorded, its spectrum."""
        ...

    def frame(self, index: int) -> list[AnyArray]:
        """Read the pixels of frame `index`: one array of shape (slow, fast) a panel.

        Raises
        ------
        FrameError
            This frame is damaged or missing; others may be good.
        """
        ...

    def mask(self, index: int) -> list[BoolArray] | None:
        """Return the file's own mask, True where a pixel is good, one array a panel; None where it has none.

        Trusted ranges and masked rectangles of the panels are not part of it (see `Panel.trusted_mask`).
        """
        ...

    def image(self, index: int) -> ImageRef:
        """Return the file, and the number in it, of frame `index`."""
        ...
