"""Section: the numbers that one asks for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exafel.monitor.report.blocks import Fact, Facts, Section, text
from exafel.monitor.report.merged import percent
from exafel.monitor.report.trial import PARTICLE_STEPS, STILLS_STEPS, Trial

_WITHOUT = {
    "stills": "no images have been processed",
    "cells": "no statistics of unit cells",
    "merge": "no merged intensities",
    "spi_hits": "no hits of single particles",
    "spi_reconstruct": "no density",
}


def overview_section(trial: Trial, sections: Mapping[str, Section]) -> Section:
    """Put the first numbers of the other sections together, and say which steps are not there."""
    section = Section("overview", "Overview")
    facts = [*_shot_facts(sections), *_cell_facts(sections), *_merge_facts(trial)]
    if facts:
        section.add(Facts(tuple(facts)))
    known = PARTICLE_STEPS if any(name in trial.steps for name in PARTICLE_STEPS) else STILLS_STEPS
    absent = [name for name in known if name in _WITHOUT and trial.finished(name) is None]
    for name in absent:
        state = trial.steps[name].state if name in trial.steps else "not there"
        section.note(f"The step {name} is {state}: {_WITHOUT[name]} to show yet.", warning=True)
    section.numbers = {fact.label: fact.value for fact in facts} | {"absent": absent}
    return section


def _shot_facts(sections: Mapping[str, Section]) -> list[Fact]:
    numbers = sections["shots"].numbers if "shots" in sections else {}
    if "n_shots" not in numbers:
        return []
    integrated = numbers["outcomes"].get("integrated", 0)
    return [
        Fact("Shots", text(numbers["n_shots"]), f"{text(integrated)} integrated"),
        Fact("Hit rate", percent(numbers["hit_rate"]), "of all shots"),
        Fact(
            "Indexing rate",
            percent(numbers["indexed_of_hits"]),
            f"of hits; {percent(numbers['indexed_of_shots'])} of all",
        ),
    ]


def _cell_facts(sections: Mapping[str, Section]) -> list[Fact]:
    numbers: Mapping[str, Any] = sections["cells"].numbers if "cells" in sections else {}
    if "statistics" not in numbers:
        return []
    medians = [numbers["statistics"][name]["median"] for name in ("a", "b", "c", "alpha", "beta", "gamma")]
    edges, angles = (
        " ".join(f"{value:.{digits}f}" for value in part) for part, digits in ((medians[:3], 2), (medians[3:], 1))
    )
    return [Fact("Median cell (Å)", edges, f"angles {angles}°", wide=True)]


def _merge_facts(trial: Trial) -> list[Fact]:
    step = trial.finished("merge")
    if step is None:
        return []
    numbers = step.summary
    d_min = numbers.get("d_min")
    return [
        Fact("Lattices merged", text(numbers.get("n_accepted")), str(numbers.get("space_group", ""))),
        Fact("Resolution", "–" if d_min is None else f"{d_min:.2f} Å"),
        Fact("CC½", percent(numbers.get("cc_half"))),
        Fact("R-split", percent(numbers.get("r_split")), f"R-int {percent(numbers.get('r_int'))}"),
        Fact("Completeness", percent(numbers.get("completeness")), f"{text(numbers.get('n_unique'))} reflections"),
        Fact("Multiplicity", _fixed(numbers.get("multiplicity")), f"{text(numbers.get('n_obs'))} observations"),
        Fact("⟨I/σ⟩", _fixed(numbers.get("mean_i_over_sigma"))),
    ]


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
