#!/bin/bash
# Snakemake runs a copy of this once in a new environment, in the working directory of the study. Where the package is,
# rules/common.smk says: the clone, or the repository that the workflow was deployed from.
set -eu
source=${LEOD_SOURCE:-.}
case $source in
    git+*) python -m pip install --no-deps --no-build-isolation "$source" ;;
    *)
        if [ ! -f "$source/pyproject.toml" ]; then
            echo "error: $source is no clone of the workflow, so the package leod cannot be installed from there" >&2
            exit 1
        fi
        python -m pip install --no-deps --no-build-isolation --editable "$source"
        ;;
esac
