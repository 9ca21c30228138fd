#!/usr/bin/env bash
# Snakemake calls this inside the new environment, from the folder it was started in: the root of the checkout.
set -euo pipefail
python -m pip install "$PWD"
