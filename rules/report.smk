# Tables and report over the whole study.
rule write_plan:
    output:
        plan=f"{RESULTS}/plan.json",
    log:
        FILES.log("write_plan"),
    benchmark:
        FILES.benchmark("write_plan")
    localrule: True
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        content=FILES.plan().model_dump(mode="json"),
    message:
        "Listing the detectors of the study"
    script:
        "../workflow/scripts/write_json.py"


# The configuration that all results are of, whole: what a study is packed and run again with.
rule write_study:
    output:
        study=f"{RESULTS}/study.json",
    log:
        FILES.log("write_study"),
    benchmark:
        FILES.benchmark("write_study")
    localrule: True
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(500),
        runtime=10,
    params:
        content=lambda wildcards, output: STUDY.model_dump(mode="json", by_alias=True),
        # Snakemake does not compare the content, since the use of the machine is in it.
        compared=STUDY.model_dump_json(by_alias=True, exclude={"hardware"}),
    message:
        "Writing down the configuration of the study"
    script:
        "../workflow/scripts/write_json.py"


rule summarise:
    input:
        plan=rules.write_plan.output.plan,
        results=results_of_detectors("metrics", "record", "quality"),
    output:
        summary=report(
            f"{RESULTS}/summary.csv",
            caption="../workflow/report/summary.rst",
            category="Result",
            labels={"figure": "summary table"},
        ),
        table=f"{RESULTS}/summary.md",
    log:
        FILES.log("summarise"),
    benchmark:
        FILES.benchmark("summarise")
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=30,
    message:
        "Summarising the study: {output.table}"
    shell:
        logged("leod summarise --plan {input.plan:q} --output {output.summary:q} --table {output.table:q}")


rule write_report:
    input:
        FILES.manifests(*SPLITS),
        results_of_detectors(),
        plan=rules.write_plan.output.plan,
        summary=rules.summarise.output.summary,
    output:
        **report_figures(),
        page=report(f"{RESULTS}/report.html", caption="../workflow/report/page.rst", category="Whole report"),
    log:
        FILES.log("write_report"),
    benchmark:
        FILES.benchmark("write_report")
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        mem_mb=memory(8000),
        runtime=60,
    params:
        figures=subpath(output.average_precision, parent=True),
        settings=settings(stage.ReportSettings.from_study(STUDY)),
    message:
        "Writing the report of the study: {output.page}"
    shell:
        logged(
            "leod report --plan {input.plan:q} --summary {input.summary:q} --output {output.page:q}"
            " --figures {params.figures:q} --threads {threads} --settings {params.settings:q}"
        )
