"""Reading one shot: its pixels, its mask, and its geometry with what the configuration corrects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exafel.arrays import AnyArray, BoolArray
from exafel.config.stills import GeometryConfig
from exafel.config.untrusted import UntrustedConfig
from exafel.errors import FrameError, InputError
from exafel.io.experiment import ImageRef
from exafel.io.expt import read_expt
from exafel.io.geometry import Beam, Detector
from exafel.io.source import FrameSource
from exafel.stills.masks import good_masks
from exafel.stills.untrusted import fixed_mask, resolution_mask


@dataclass(frozen=True, eq=False)
class Shot:
    """One shot, ready to be processed.

    Parameters
    ----------
    frames, masks
        Pixels, and True where they can be trusted; one array of shape (slow, fast) a panel.
    """

    number: int
    frames: list[AnyArray]
    masks: list[BoolArray]
    detector: Detector
    beam: Beam
    image: ImageRef


class ShotReader:
    """Shots by number.

    Parameters
    ----------
    source
        The image files.
    config
        Corrections to the files' metadata.
    untrusted
        Parts of the detector that are not to be trusted.

    Raises
    ------
    InputError
        The reference geometry or the mask cannot be read.
    """

    def __init__(self, source: FrameSource, config: GeometryConfig, untrusted: UntrustedConfig | None = None) -> None:
        self._source = source
        self._config = config
        self._untrusted = untrusted or UntrustedConfig()
        self._reference = None if config.reference is None else _reference_detector(Path(config.reference))
        self._mask = None if config.mask is None else _read_mask(Path(config.mask))
        self._corrected: tuple[Detector, Detector] | None = None
        self._fixed: tuple[Detector, bytes, list[BoolArray]] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def image(self, number: int) -> ImageRef:
        """Return the file, and the number in it, of a shot."""
        return self._source.image(number)

    def read(self, number: int) -> Shot:
        """Read a shot.

        Raises
        ------
        FrameError
            The frame is damaged, or does not fit the detector, the reference geometry or the mask.
        """
        frames = self._source.frame(number)
        detector = self._detector(self._source.detector(number))
        user_mask = None if self._mask is None else _split_mask(self._mask, detector)
        beam = self._beam(number)
        drawn = self._drawn_masks(detector, beam)
        masks = good_masks(frames, detector, self._source.mask(number), user_mask, *drawn)
        return Shot(number, frames, masks, detector, beam, self._source.image(number))

    def _beam(self, number: int) -> Beam:
        beam = self._source.beam(number)
        if self._config.wavelength_angstrom is not None:
            beam = replace(beam, wavelength_angstrom=self._config.wavelength_angstrom, spectrum=None)
        if not np.isfinite(beam.wavelength_angstrom) or beam.wavelength_angstrom <= 0:
            raise FrameError("no wavelength", hint="give stills.geometry.wavelength_angstrom")
        return beam

    def _drawn_masks(self, detector: Detector, beam: Beam) -> list[list[BoolArray]]:
        """Masks of `stills.untrusted`; what does not depend on the wavelength is made once for shots that share it."""
        config = self._untrusted
        masks = []
        if config.shapes or config.border_px or config.beam_stop_radius_mm is not None:
            direction = beam.direction.tobytes()
            if self._fixed is None or self._fixed[0] is not detector or self._fixed[1] != direction:
                self._fixed = detector, direction, fixed_mask(detector, beam, config)
            masks.append(self._fixed[2])
        if config.depends_on_resolution:
            masks.append(resolution_mask(detector, beam, config))
        return masks

    def _detector(self, detector: Detector) -> Detector:
        """Corrected detector; shots that share one go on sharing it."""
        limits = self._untrusted.below, self._untrusted.above
        if self._reference is None and self._config.distance_mm is None and limits == (None, None):
            return detector
        if self._corrected is not None and self._corrected[0] is detector:
            return self._corrected[1]
        corrected = detector if self._reference is None else _checked(self._reference, detector)
        if self._config.distance_mm is not None:
            corrected = move_to_distance(corrected, self._config.distance_mm)
        corrected = _trusting(corrected, *limits)
        self._corrected = (detector, corrected)
        return corrected


def move_to_distance(detector: Detector, distance_mm: float) -> Detector:
    """Move a detector along the beam axis (laboratory z) so that its panels' centres are on average at a distance."""
    centres = [
        panel.pixel_to_lab(np.array([[panel.image_size[0] / 2, panel.image_size[1] / 2]]))[0, 2]
        for panel in detector.panels
    ]
    present = float(np.mean(centres))
    shift = np.array([0.0, 0.0, np.copysign(distance_mm, present) - present])
    panels = tuple(replace(panel, origin_mm=panel.origin_mm + shift) for panel in detector.panels)
    return replace(detector, panels=panels)


def _trusting(detector: Detector, below: float | None, above: float | None) -> Detector:
    """Detector with other ends of the trusted range, where they are given."""
    if below is None and above is None:
        return detector
    panels = tuple(
        replace(
            panel,
            trusted_range=(
                panel.trusted_range[0] if below is None else below,
                panel.trusted_range[1] if above is None else above,
            ),
        )
        for panel in detector.panels
    )
    return replace(detector, panels=panels)


def _reference_detector(path: Path) -> Detector:
    experiments = read_expt(path)
    if not len(experiments):
        raise InputError("no experiment in the reference geometry", where=path)
    return experiments[0].detector


def _checked(reference: Detector, detector: Detector) -> Detector:
    sizes = [[panel.image_size for panel in item.panels] for item in (reference, detector)]
    if sizes[0] != sizes[1]:
        raise FrameError("its panels are not those of stills.geometry.reference")
    return reference


def _read_mask(path: Path) -> AnyArray:
    try:
        mask = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError("cannot read the mask", where=path, hint="write it with numpy.save as booleans") from error
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim not in (2, 3):
        raise InputError("the mask is not an array of booleans with 2 or 3 dimensions", where=path)
    return mask if mask.ndim == 3 else mask[None]


def _split_mask(mask: AnyArray, detector: Detector) -> list[BoolArray]:
    if len(mask) != len(detector) or any(panel.shape != mask.shape[1:] for panel in detector.panels):
        raise FrameError(f"its panels are not those of stills.geometry.mask, of shape {mask.shape}")
    return list(mask)
