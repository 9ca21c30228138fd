"""Which step feeds which, and where each one's results lie: the one thing that all workflow drivers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import yaml

from exafel.config.workflow import WorkflowConfig
from exafel.errors import ConfigError
from exafel.io.files import atomic_write
from exafel.parallel.launch import launch
from exafel.steps.base import QUIET, Hooks, StepRequest, StepSummary

Inputs = tuple[Path, ...]

FIRST = "_first"
"""End of the names of the steps that look for an unknown cell, before those of the same name use it."""


@dataclass(frozen=True)
class Link:
    """One step of a chain.

    Parameters
    ----------
    step
        Name of the step, of its rule and of its folder of results.
    after
        Steps whose results it reads.
    inputs
        What it reads: images, or folders of results; they need not be there yet.
    files
        Other files that it reads, named in its section: structures, references, detectors; not results of the chain.
    out
        Folder that its results go to.
    """

    step: str
    after: tuple[str, ...]
    inputs: Inputs
    files: Inputs
    out: Path

    @property
    def section(self) -> str:
        """The step's section of the configuration, and its module; a first pass has those of the second."""
        return self.step.removesuffix(FIRST)


def trial_folder(config: WorkflowConfig) -> Path:
    """Folder of one way of processing one data set: ``<results>/<dataset>/<trial>``."""
    return Path(config.results) / config.dataset / config.trial


def found_cells(config: WorkflowConfig) -> Path:
    """Folder of the clusters that the first of two passes has found, and the second indexes with."""
    return trial_folder(config) / ("cells" + FIRST)


def chain_of(config: WorkflowConfig) -> tuple[Link, ...]:
    """Steps that the configuration asks for, each after those that it needs.

    Raises
    ------
    ConfigError
        There are neither images nor parameters to simulate them with.
    """
    root = trial_folder(config)

    def link(step: str, after: tuple[str, ...] = (), inputs: Inputs | None = None) -> Link:
        """Link that reads the results of the steps that it comes after, unless `inputs` are something else."""
        if inputs is None:
            inputs = tuple(root / name for name in after)
        files = tuple(path for path in _named_files(config, step) if not _is_in(path, root / "cells"))
        return Link(step, after, inputs, files, root / step)

    if config.spi_reconstruct is not None:
        return _particles(config, link)
    if not config.images and config.simulate is None:
        raise ConfigError("there are no images", where="images", hint="name image folders, or give a simulate section")
    made = () if config.images else ("simulate",)
    images = tuple(Path(item) for item in config.images) or (root / "simulate",)
    links = [link(step) for step in made]
    found: tuple[str, ...] = ()
    if config.stills.indexing.two_passes:
        links.append(link("stills" + FIRST, made, images))
        links.append(link("cells" + FIRST, ("stills" + FIRST,)))
        found = ("cells" + FIRST,)
    links.append(link("stills", (*made, *found), images))
    links.append(link("cells", after=("stills",)))
    aside = [link("refine_detector", after=("stills",))] if config.refine_detector is not None else []
    needs_cells = any(_is_in(path, root / "cells") for path in _named_files(config, "merge"))
    after = ("stills", "cells") if needs_cells else ("stills",)  # the chain's own clusters may be merge's filter
    links.append(link("merge", after=after, inputs=(root / "stills",)))
    if config.diffbragg:
        links.append(link("stage1", after=("stills", "merge")))
        links.append(link("predict", after=("stage1",)))
        links.append(link("stage2", after=("predict", "merge")))
        if config.simulate is not None and not config.images:
            links.append(link("evaluate", after=("stills", "simulate", "merge", "stage1", "stage2")))
    shown = tuple(item.step for item in links if not item.step.endswith(FIRST))
    return (*links, link("report", after=shown), *aside)


def _particles(config: WorkflowConfig, link: Callable[..., Link]) -> tuple[Link, ...]:
    """Chain of single particles; it is compared with the truth where it was simulated."""
    root = trial_folder(config)
    shots = tuple(Path(item) for item in config.images) or (root / "simulate_spi",)
    first = () if config.images else ("simulate_spi",)
    if first and config.simulate_spi is None:
        hint = "name files of shots, or give a simulate_spi section"
        raise ConfigError("there are no images", where="images", hint=hint)
    links = [link(step) for step in first]
    links.append(link("spi_hits", first, shots))
    links.append(link("spi_reconstruct", (*first, "spi_hits"), (*shots, root / "spi_hits")))
    if first:
        links.append(link("spi_evaluate", (*first, "spi_reconstruct"), (*shots, root / "spi_reconstruct")))
    return (*links, link("report", after=tuple(item.step for item in links)))


def _named_files(config: WorkflowConfig, step: str) -> Inputs:
    named: list[str | None] = []
    if step == "simulate" and config.simulate is not None:
        named = [config.simulate.structure, getattr(config.simulate.detector, "path", None)]
    elif step == "evaluate":
        named = [config.evaluate.anomalous_model]
    elif step == "simulate_spi" and config.simulate_spi is not None:
        named = [*config.simulate_spi.structures]
    elif step == "spi_evaluate":
        named = [*config.spi_evaluate.structures]
    elif step in ("stills", "stills" + FIRST):
        named = [config.stills.geometry.reference, config.stills.geometry.mask]
    elif step == "merge":
        cells = config.merge.filter.unit_cell
        cluster = cells.cluster.file if cells.algorithm == "cluster" else None
        reindexing = getattr(config.merge.reindexing, "model", None)
        named = [config.merge.scaling.model, config.merge.statistics.cciso_model, reindexing, cluster]
    return tuple(Path(name) for name in dict.fromkeys(named) if name is not None)


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def find_link(config: WorkflowConfig, step: str) -> Link:
    """Return one step of the chain.

    Raises
    ------
    ConfigError
        The configuration's chain has no such step.
    """
    links = {link.step: link for link in chain_of(config)}
    if step not in links:
        raise ConfigError(f"there is no step '{step}' here, but {', '.join(links)}")
    return links[step]


def request_for(config: WorkflowConfig, link: Link) -> StepRequest:
    """Build a step's request; its inputs must be there.

    Raises
    ------
    ExafelError
        An input is missing, or does not fit the configuration.
    """
    make, section, inputs = _module(link.section).request, getattr(config, link.section), link.inputs
    request: StepRequest
    if link.step == "stills" + FIRST:
        section = section.first_pass()
    elif link.step == "stills" and section.indexing.two_passes:
        section = section.second_pass(found_cells(config))
    if link.step == "evaluate":
        folders = dict(zip(link.after, inputs, strict=True))
        stills, truth = (folders.pop("stills"),), folders.pop("simulate")
        request = make(section, stills, truth, link.out, **folders)
    elif link.step == "stage1":
        request = make(section, inputs[:1], inputs[1], link.out)
    elif link.step in ("predict", "stage2"):
        request = make(section, *inputs, link.out)
    elif link.step == "spi_reconstruct":
        *shots, hits = inputs
        request = make(section, shots, link.out, hits=hits)
    elif link.step == "spi_evaluate":
        *shots, reconstruction = inputs
        request = make(section, reconstruction, shots, link.out)
    else:
        request = make(section, *([inputs] if inputs else []), link.out)
    return request


def run_link(config: WorkflowConfig, step: str, *, ranks: int = 1, hooks: Hooks = QUIET) -> StepSummary:
    """Run one step of the chain; the steps that it needs have been run.

    Parameters
    ----------
    config
        The whole configuration.
    step
        Name of the step.
    ranks
        Local processes, where no MPI launcher has started the ranks.
    hooks
        How the step speaks to its driver.

    Raises
    ------
    ExafelError
        What the step raises.
    """
    link = find_link(config, step)
    request = request_for(config, link)
    summary: StepSummary = launch(_module(link.section).run, request, ranks=ranks, rank0={"hooks": hooks})
    return summary


def _module(step: str) -> ModuleType:
    return import_module(f"exafel.steps.{step}")  # only when its turn comes: numerical libraries take time to load


def config_path(config: WorkflowConfig) -> Path:
    """File that the resolved configuration is written to, beside the steps' folders."""
    return trial_folder(config) / "config.yaml"


def write_config(config: WorkflowConfig) -> Path:
    """Write the configuration, every default resolved, for the steps' commands and for the record."""
    path = config_path(config)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with atomic_write(path) as stream:
        stream.write(text.encode())
    return path
