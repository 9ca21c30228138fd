"""The lattices of the stills step as a table, out of its experiments."""

from __future__ import annotations

import numpy as np
import pandas as pd

from exafel.io.expt import read_expt
from exafel.monitor.report.cells import CELL_COLUMNS
from exafel.monitor.report.trial import StepFolder

LATTICE_COLUMNS = (*CELL_COLUMNS, "space_group", "half_mosaicity_deg", "domain_size_angstrom")


def read_lattices(step: StepFolder | None) -> pd.DataFrame | None:
    """Cells and mosaicities of all lattices, one row each; None where there are no experiments.

    Raises
    ------
    InputError
        A container is damaged.
    """
    files = [] if step is None else step.files("expt")
    rows = []
    for path in files:
        for experiment in read_expt(path):
            crystal = experiment.crystal
            if crystal is not None:
                mosaic = (crystal.half_mosaicity_deg, crystal.domain_size_angstrom)
                rows.append((*crystal.cell, crystal.space_group_hall, *(np.nan if x is None else x for x in mosaic)))
    return pd.DataFrame(rows, columns=list(LATTICE_COLUMNS)) if files else None
