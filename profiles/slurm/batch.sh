#!/bin/bash
# Generated from facility.yaml by `exafel facility render slurm --fix`; edits here are lost.
# The chain in one job: sbatch profiles/slurm/batch.sh
#     --configfile workflows/config/demo.yaml
#SBATCH --job-name=exafel
#SBATCH --account=project
#SBATCH --partition=main
#SBATCH --qos=normal
#SBATCH --nodes=4
#SBATCH --time=240
#SBATCH --exclusive
# SIGTERM five minutes before the end: steps leave what they have finished, and the next job goes on.
#SBATCH --signal=TERM@300
set -euo pipefail
umask 022
snakemake --profile profiles/slurm --executor local --cores all "$@"
