# A study from recordings to its summary. Table of contents: configuration, rules, targets.
from snakemake.utils import min_version

min_version("9.2")

# Only when no study is given on the command line: a second configfile would be merged into the first.
if "name" not in config:

    configfile: "configs/quickstart.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/pseudo_labels.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


localrules:
    all,
    write_plan,
    write_study,


rule all:
    default_target: True
    input:
        rules.summarise.output,
        rules.write_report.output,
        rules.write_study.output,
        results_of_detectors("model"),
