"""From the folders of steps to all sections of the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from exafel.config.report import ReportConfig
from exafel.errors import ExafelError
from exafel.monitor.report.blocks import Section
from exafel.monitor.report.cells import cells_section
from exafel.monitor.report.merged import merged_section
from exafel.monitor.report.overview import overview_section
from exafel.monitor.report.particles import particle_sections
from exafel.monitor.report.pictures import pictures_section
from exafel.monitor.report.pixels import pixels_section
from exafel.monitor.report.provenance import parameters_section, provenance_section
from exafel.monitor.report.quality import quality_section
from exafel.monitor.report.rates import rates_section
from exafel.monitor.report.shots import read_shots
from exafel.monitor.report.startup import startup_section
from exafel.monitor.report.timings import timings_section
from exafel.monitor.report.trial import Trial
from exafel.monitor.report.truth import truth_section
from exafel.monitor.report.weather import weather_section

T = TypeVar("T")


def build_sections(trial: Trial, config: ReportConfig) -> list[Section]:
    """Make every section that there is something to show in; what cannot be read is said in the page.

    Parameters
    ----------
    trial
        The steps, from `exafel.monitor.report.trial.read_trial`.
    """
    problems: list[str] = []

    def reading(what: str, function: Callable[[], T]) -> T | None:
        try:
            return function()
        except ExafelError as error:
            problems.append(str(error))
        except (KeyError, TypeError, ValueError) as error:  # what another version of a step wrote
            problems.append(f"the {what} have another form than this version knows: {error!r}")
        return None

    stills = trial.steps.get("stills")
    shots = reading("shots", lambda: read_shots(stills))
    lattices = None if shots is None else shots.lattices
    made = [
        reading(
            "outcomes of shots", lambda: rates_section(trial, None if shots is None else shots.shots, config.rate_bins)
        ),
        reading("images", lambda: pictures_section(trial, shots, config)),
        reading("unit cells", lambda: cells_section(trial, lattices, config.histogram_bins)),
        reading("lattices", lambda: quality_section(shots, config.histogram_bins)),
        reading("merge statistics", lambda: merged_section(trial)),
        reading("figures of merit", lambda: truth_section(trial)),
        *(reading("single particles", lambda: particle_sections(trial)) or []),
        reading("refinement against pixels", lambda: pixels_section(trial)),
        reading("event records", lambda: weather_section(trial)),
        reading("timings", lambda: timings_section(trial)),
        reading("start-up times", lambda: startup_section(trial)),
        provenance_section(trial),
        parameters_section(trial),
    ]
    sections = [section for section in made if section is not None]
    overview = overview_section(trial, {section.key: section for section in sections})
    for problem in problems:
        overview.note(f"Could not be read: {problem}.", warning=True)
    return [overview, *sections]
