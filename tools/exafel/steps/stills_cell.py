"""The cell that the second pass over the shots indexes with: the consensus of the first."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, ValidationError

from exafel.config.base import Model
from exafel.config.stills import StillsConfig
from exafel.errors import ConfigError, InputError
from exafel.io.crystal import CellParameters, space_group
from exafel.io.files import read_json
from exafel.steps.cells import CELLS_NAME
from exafel.stills.bravais import lattice_symbol


class _Cluster(Model):
    """What a cluster in ``cells.json`` is read for."""

    model_config = ConfigDict(extra="ignore")

    space_group: str
    size: int
    median: CellParameters


def cells_file(name: str) -> Path:
    """Path of ``cells.json``: the file itself, or the folder of the cells step.

    Raises
    ------
    InputError
        It is not there.
    """
    path = Path(name)
    path = path / CELLS_NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError("no results of the cells step", where=path, hint="run exafel cells on the first pass")
    return path


def with_consensus_cell(config: StillsConfig) -> StillsConfig:
    """Put the largest cluster's median cell and space group where the known ones are read from.

    A space group that the configuration names stays, if its Bravais lattice is the cluster's.

    Raises
    ------
    InputError
        The file is not one of the cells step.
    ConfigError
        There is no cluster, or its lattice is not that of the space group named.
    """
    assert config.indexing.cells is not None
    path = cells_file(config.indexing.cells)
    clusters = _clusters(path)
    if not clusters:
        raise ConfigError(
            "no cluster of cells to index with", where=path, hint="look at cells.csv, or give stills.indexing.unit_cell"
        )
    best = max(clusters, key=lambda cluster: cluster.size)  # the first of equals
    group = config.indexing.space_group or best.space_group
    found, wanted = (lattice_symbol(space_group(name)) for name in (best.space_group, group))
    if found != wanted:
        raise ConfigError(
            f"the largest cluster is of lattice {found} ({best.space_group}), {group} of {wanted}",
            where=path,
            hint="leave stills.indexing.space_group out, or name it for the first pass too",
        )
    return config.indexing_with(unit_cell=best.median, space_group=group, cells=None)


def _clusters(path: Path) -> list[_Cluster]:
    content = read_json(path)
    try:
        return [_Cluster.model_validate(item) for item in content["clusters"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise InputError("not a file of the cells step", where=path) from error
