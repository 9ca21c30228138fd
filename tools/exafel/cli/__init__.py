"""The command line: options in, steps called, errors mapped to exit codes; no logic."""

import os

# Ranks share a machine's cores: libraries of linear algebra take one thread each, unless the user says otherwise, and
# not one for every core. It must be said before they are loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
