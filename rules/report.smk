# Tables and report over the whole study.
rule write_plan:
    output:
        plan=f"{RESULTS}/plan.json",
    log:
        f"{LOGS}/write_plan.log",
    benchmark:
        f"{BENCHMARKS}/write_plan.tsv"
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=plan(),
    message:
        "Listing the experiments of the study"
    script:
        "../workflow/scripts/write_json.py"


rule summarise:
    input:
        plan=rules.write_plan.output.plan,
        metrics=sorted({entry["metrics"] for entry in plan()}),
        qualities=sorted({entry["quality"] for entry in plan() if entry["quality"]}),
    output:
        summary=report(
            f"{RESULTS}/summary.csv",
            caption="../workflow/report/summary.rst",
            category="Result",
            labels={"figure": "summary table"},
        ),
        table=f"{RESULTS}/summary.md",
    log:
        f"{LOGS}/summarise.log",
    benchmark:
        f"{BENCHMARKS}/summarise.tsv"
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=1000,
        runtime=30,
    message:
        "Summarising the study: {output.table}"
    shell:
        logged("leod summarise --entries {input.plan:q} --output {output.summary:q} --table {output.table:q}")


rule write_report_plan:
    output:
        plan=f"{RESULTS}/report_plan.json",
    log:
        f"{LOGS}/write_report_plan.log",
    benchmark:
        f"{BENCHMARKS}/write_report_plan.tsv"
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        content=report_plan(),
    message:
        "Listing the detectors of the study"
    script:
        "../workflow/scripts/write_json.py"


rule write_report:
    input:
        sequence_manifests(*SPLITS),
        report_inputs(),
        plan=rules.write_report_plan.output.plan,
        summary=rules.summarise.output.summary,
    output:
        **report_figures(),
        page=report(f"{RESULTS}/report.html", caption="../workflow/report/page.rst", category="Whole report"),
    log:
        f"{LOGS}/write_report.log",
    benchmark:
        f"{BENCHMARKS}/write_report.tsv"
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        figures=subpath(output.average_precision, parent=True),
        settings=settings(ReportSettings.from_study(STUDY)),
    message:
        "Writing the report of the study: {output.page}"
    shell:
        logged(
            "leod report --plan {input.plan:q} --summary {input.summary:q} --output {output.page:q}"
            " --figures {params.figures:q} --threads {threads} --settings {params.settings:q}"
        )
