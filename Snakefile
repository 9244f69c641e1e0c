# A study from recordings to its summary. Table of contents: configuration, rules, targets.
from snakemake.utils import min_version

min_version("9.2")


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/pseudo_labels.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        rules.summarise.output,
        rules.write_report.output,
        rules.write_study.output,
        results_of_detectors("model"),
    localrule: True
