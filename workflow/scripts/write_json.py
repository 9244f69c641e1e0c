"""Write a parameter as JSON: what is too long for a command line and too small for a stage of its own."""

from leod.files import write_json

write_json(snakemake.output[0], snakemake.params.content)  # noqa: F821 - provided by Snakemake
