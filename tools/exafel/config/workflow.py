"""The whole configuration of one data set: one section a step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from exafel.config.base import Model, read_yaml, validate
from exafel.config.cells import CellsConfig
from exafel.config.evaluate import EvaluateSfxConfig
from exafel.config.merge import MergeConfig
from exafel.config.refine_detector import RefineDetectorConfig
from exafel.config.report import ReportConfig
from exafel.config.simulate import SimulateSfxConfig
from exafel.config.simulate_spi import SimulateSpiConfig
from exafel.config.spi import SpiEvaluateConfig, SpiHitsConfig, SpiReconstructConfig
from exafel.config.stills import StillsConfig
from exafel.errors import ConfigError


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])]


class WorkflowConfig(Model):
    """What is done to one data set, from images to merged structure factors and a report."""

    dataset: str = Field("dataset", pattern=r"^[A-Za-z0-9._-]+$", description="Name of the data set; a folder name.")
    trial: str = Field("000", pattern=r"^[A-Za-z0-9._-]+$", description="Name of this way of processing it.")
    results: str = Field("results", description="Folder that results go to, as <results>/<dataset>/<trial>/<step>.")
    images: Paths = Field(
        (), description="Image files, or folders of them; one or a list. Empty: the simulate section makes them."
    )
    simulate: SimulateSfxConfig | None = Field(None, description="Make the images instead of reading them.")
    stills: StillsConfig = Field(default_factory=StillsConfig, description="From images to integrated lattices.")
    refine_detector: RefineDetectorConfig | None = Field(
        None, description="Refine the detector by the lattices of this trial, for the next one."
    )
    cells: CellsConfig = Field(default_factory=CellsConfig, description="Statistics of unit cells over shots.")
    merge: MergeConfig = Field(default_factory=MergeConfig, description="From lattices to merged structure factors.")
    evaluate: EvaluateSfxConfig = Field(
        default_factory=EvaluateSfxConfig, description="Figures of merit against truth, by exafel evaluate sfx."
    )
    simulate_spi: SimulateSpiConfig | None = Field(None, description="Make shots of single particles.")
    spi_hits: SpiHitsConfig = Field(
        default_factory=SpiHitsConfig, description="Shots that show one particle, by exafel spi hits."
    )
    spi_reconstruct: SpiReconstructConfig | None = Field(
        None, description="From shots of single particles to densities. With it, the chain is that of single particles."
    )
    spi_evaluate: SpiEvaluateConfig = Field(
        default_factory=SpiEvaluateConfig, description="A reconstruction against the truth, by exafel spi evaluate."
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="The page that shows it all.")


def load_workflow_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> WorkflowConfig:
    """Read a workflow configuration; without a path, the defaults.

    Parameters
    ----------
    path
        YAML file, or None.
    overrides
        Dotted keys and their values, such as ``{"merge.d_min": 2.0}``, put over the file's.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key or value is not known; each fault with its key.
    """
    data = {} if path is None else read_yaml(path)
    for key, value in (overrides or {}).items():
        _put(data, key, value)
    return validate(WorkflowConfig, data, where=path)


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        inner = data.setdefault(part, {})
        if inner is None:
            inner = data[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"'{part}' is a value, not a section, so '{key}' cannot be set")
        data = inner
    data[last] = value
