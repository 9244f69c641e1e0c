# Pseudo-labels of round r, made by the detector of round r - 1.
if FILES.chooses_thresholds:

    rule choose_thresholds:
        input:
            FILES.manifests("val"),
            model=previous_model,
        output:
            thresholds=f"{ROUND}/thresholds.json",
        log:
            FILES.log("choose_thresholds"),
        benchmark:
            FILES.benchmark("choose_thresholds")
        wildcard_constraints:
            round=r"[1-9]\d*",
        # Before evaluations: the next round waits for this.
        priority: 10
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
            settings=settings_of("choose_thresholds"),
        message:
            "Choosing score thresholds: {wildcards.experiment}, round {wildcards.round}"
        shell:
            logged(
                "leod choose-thresholds --checkpoint {input.model:q} --sequences {params.sequences:q}"
                " --output {output.thresholds:q} --threads {threads} --hardware {params.hardware:q}"
                " --settings {params.settings:q}"
            )


rule generate_pseudo_labels:
    input:
        FILES.manifests("train"),
        model=previous_model,
        labels=labels_of,
        thresholds=lambda wildcards: FILES.chosen_thresholds(wildcards.experiment, int(wildcards.round)),
    output:
        predictions=f"{ROUND}/predictions/{{shard}}.h5",
    log:
        FILES.log("generate_pseudo_labels"),
    benchmark:
        FILES.benchmark("generate_pseudo_labels")
    wildcard_constraints:
        round=r"[1-9]\d*",
    # Before evaluations: the next round waits for this.
    priority: 10
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=min(FILES.gpus, 1),
        mem_mb=memory(16000),
        runtime=1440,
    params:
        sequences=DATASET.sequences,
        shards=len(FILES.shards),
        thresholds=lambda wildcards, input: " ".join(f"--thresholds {shlex.quote(file)}" for file in input.thresholds),
        hardware=without_influence(STUDY.hardware),
        settings=settings_of("generate_pseudo_labels"),
    message:
        "Pseudo-labels of {wildcards.experiment}, round {wildcards.round}, shard {wildcards.shard}"
    shell:
        logged(
            "leod generate-pseudo-labels --checkpoint {input.model:q} --sequences {params.sequences:q}"
            " --labels {input.labels:q} --output {output.predictions:q} --shard {wildcards.shard} --shards {params.shards}"
            " {params.thresholds} --threads {threads} --hardware {params.hardware:q} --settings {params.settings:q}"
        )


rule track_filter:
    input:
        FILES.manifests("train"),
        # Only linked: what is in them makes no difference.
        ancient(FILES.manifests("val", "test")),
        predictions=predictions_of,
        labels=labels_of,
        thresholds=lambda wildcards: FILES.keep_thresholds(wildcards.experiment, int(wildcards.round)),
    output:
        dataset=directory(f"{ROUND}/dataset"),
        manifest=f"{ROUND}/dataset.json",
    log:
        FILES.log("track_filter"),
    benchmark:
        FILES.benchmark("track_filter")
    # Before evaluations: the next round waits for this.
    priority: 10
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        sequences=DATASET.sequences,
        thresholds=lambda wildcards, input: " ".join(f"--thresholds {shlex.quote(file)}" for file in input.thresholds),
        settings=settings_of("track_filter"),
    message:
        "Filtering by tracks: {wildcards.experiment}, round {wildcards.round}"
    shell:
        logged(
            "leod track-filter {input.predictions:q} --sequences {params.sequences:q} --labels {input.labels:q}"
            " --output {output.dataset:q} --manifest {output.manifest:q} {params.thresholds} --settings {params.settings:q}"
        )


rule validate_quality:
    input:
        FILES.manifests("train"),
        predictions=predictions_of,
        labels=labels_of,
        pseudo_labels=pseudo_labels_of,
    output:
        quality=f"{ROUND}/quality.json",
    log:
        FILES.log("validate_quality"),
    benchmark:
        FILES.benchmark("validate_quality")
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=120,
    params:
        sequences=DATASET.sequences,
        settings=settings_of("validate_quality"),
    message:
        "Quality of the pseudo-labels: {wildcards.experiment}, round {wildcards.round}"
    shell:
        logged(
            "leod validate-quality {input.predictions:q} --dataset {input.pseudo_labels[0]:q} --sequences {params.sequences:q}"
            " --labels {input.labels:q} --output {output.quality:q} --settings {params.settings:q}"
        )
