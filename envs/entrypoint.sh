#!/bin/sh
# What a container of the Dockerfile starts. `snakemake` in a folder without a workflow of its own takes that of the image.
set -eu
home=${LEOD_HOME:-/opt/leod}
if [ "${1:-}" = snakemake ] && [ ! -e Snakefile ] && [ ! -e workflow/Snakefile ]; then
    shift
    set -- snakemake --snakefile "$home/Snakefile" "$@"
fi
exec "$@"
