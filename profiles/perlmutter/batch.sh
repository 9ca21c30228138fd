#!/bin/bash
# Generated from facility.yaml by `exafel facility render perlmutter --fix`; edits here are lost.
# The chain in one job: sbatch profiles/perlmutter/batch.sh
#     --configfile workflows/config/demo.yaml
#SBATCH --job-name=exafel
#SBATCH --account=lcls
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=4
#SBATCH --time=240
#SBATCH --exclusive
# SIGTERM five minutes before the end: steps leave what they have finished, and the next job goes on.
#SBATCH --signal=TERM@300
set -euo pipefail
umask 002
snakemake --profile profiles/perlmutter --executor local --cores all "$@"
