#!/bin/bash
# Snakemake runs this once in a new environment, in the folder that it was started in.
set -eu
if [ ! -f pyproject.toml ]; then
    echo "error: start snakemake in the clone, so that the package leod can be installed from there" >&2
    exit 1
fi
python -m pip install --no-deps --no-build-isolation --editable .
