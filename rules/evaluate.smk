# Metrics of every detector, and its latency.
rule evaluate:
    input:
        lambda wildcards: FILES.manifests(wildcards.split),
        model=f"{ROUND}/model.ckpt",
    output:
        metrics=f"{ROUND}/metrics/{{split}}_{{variant}}.json",
    log:
        FILES.log("evaluate"),
    benchmark:
        FILES.benchmark("evaluate")
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=min(FILES.gpus, 1),
        mem_mb=memory(8000),
        runtime=480,
    params:
        sequences=DATASET.sequences,
        hardware=without_influence(STUDY.hardware),
        settings=settings(stage.EvaluateSettings.from_study(STUDY)),
    message:
        "Evaluating {wildcards.experiment}, round {wildcards.round} ({wildcards.variant}, {wildcards.split})"
    shell:
        logged(
            "leod evaluate --checkpoint {input.model:q} --sequences {params.sequences:q} --output {output.metrics:q}"
            " --split {wildcards.split} --variant {wildcards.variant} --threads {threads} --hardware {params.hardware:q}"
            " --settings {params.settings:q}"
        )


# Only if asked for: the machine decides about it.
rule measure_latency:
    input:
        FILES.manifests(STUDY.evaluate.split),
        model=f"{ROUND}/model.ckpt",
    output:
        latency=f"{ROUND}/latency.json",
    log:
        FILES.log("measure_latency"),
    benchmark:
        FILES.benchmark("measure_latency")
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=min(FILES.gpus, 1),
        mem_mb=memory(4000),
        runtime=30,
    params:
        sequences=DATASET.sequences,
        split=STUDY.evaluate.split,
        hardware=without_influence(STUDY.hardware),
        settings=settings(stage.LatencySettings.from_study(STUDY)),
    message:
        "Measuring the latency of {wildcards.experiment}, round {wildcards.round}"
    shell:
        logged(
            "leod measure-latency --checkpoint {input.model:q} --sequences {params.sequences:q} --output {output.latency:q}"
            " --split {params.split} --threads {threads} --hardware {params.hardware:q} --settings {params.settings:q}"
        )
