"""Runs under DIALS' own Python: finds spots on one image and writes their positions as NumPy files.

Arguments: image file, image number, output folder, parameters of dials.find_spots.
"""

import sys
from pathlib import Path

import numpy as np
from dials.array_family import flex
from dials.command_line.find_spots import phil_scope
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.phil import parse

image, number, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
params = phil_scope.fetch(parse("\n".join(sys.argv[4:]))).extract()
experiments = ExperimentListFactory.from_filenames([image])[number : number + 1]
spots = flex.reflection_table.from_observations(experiments, params)
np.save(out / "xy.npy", np.array(spots["xyzobs.px.value"].as_numpy_array())[:, :2])
np.save(out / "panel.npy", spots["panel"].as_numpy_array())
