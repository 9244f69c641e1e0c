# Tables over the whole study.
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
        summary=report(f"{RESULTS}/summary.csv", caption="../workflow/report/summary.rst", category="Summary"),
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
