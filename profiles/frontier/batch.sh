#!/bin/bash
# Generated from facility.yaml by `exafel facility render frontier --fix`; edits here are lost.
# The chain in one job: sbatch profiles/frontier/batch.sh
#     --configfile workflows/config/demo.yaml
#SBATCH --job-name=exafel
#SBATCH --account=chm137
#SBATCH --partition=batch
#SBATCH --qos=normal
#SBATCH --constraint=nvme
#SBATCH --nodes=4
#SBATCH --time=120
#SBATCH --exclusive
# SIGTERM five minutes before the end: steps leave what they have finished, and the next job goes on.
#SBATCH --signal=TERM@300
set -euo pipefail
umask 002
deployed=$(exafel env deploy --facility frontier --shell) && eval "$deployed" || exit 1
snakemake --profile profiles/frontier --executor local --cores all "$@"
