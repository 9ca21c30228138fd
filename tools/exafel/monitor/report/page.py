"""From sections to one page that needs nothing else, and to its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import exafel
from exafel.monitor.report.blocks import Figure, Section, text
from exafel.monitor.report.trial import Trial

_LONG_WORD = 24


def render_page(trial: Trial, sections: Sequence[Section], title: str) -> str:
    """Write the page: one HTML document with its styles, pictures and data inside."""
    environment = Environment(
        loader=PackageLoader("exafel.monitor.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["text"] = text
    environment.filters["svg"] = _svg
    environment.filters["has_long_word"] = _has_long_word
    return environment.get_template("report.html.j2").render(
        title=title or f"{trial.dataset} / {trial.name}",
        trial=trial,
        sections=sections,
        version=exafel.__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _svg(figure: Figure) -> Markup:
    """Pass a figure's SVG through as it is: it was made here, and its texts are escaped by the writer of SVG."""
    return Markup(figure.svg)  # noqa: S704


def _has_long_word(value: Any) -> bool:
    """Whether a cell's text, such as a path, would widen its column unless it may be broken anywhere."""
    return any(len(word) > _LONG_WORD for word in text(value).split())


def numbers_of(trial: Trial, sections: Sequence[Section]) -> dict[str, Any]:
    """Return everything that the page shows, as plain data."""
    return {
        "dataset": trial.dataset,
        "trial": trial.name,
        "software_version": exafel.__version__,
        "steps": {name: step.state for name, step in trial.steps.items()},
        "sections": {section.key: section.as_json() for section in sections},
    }
