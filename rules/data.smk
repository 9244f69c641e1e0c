# Recordings → sequences → kept labels.
if DATASET.simulate is not None:

    rule simulate:
        input:
            simulated_before,
        output:
            manifest=f"{DATASET.recordings}/manifest.json",
        log:
            FILES.log("simulate"),
        benchmark:
            FILES.benchmark("simulate")
        conda:
            "../envs/leod.yaml"
        threads: workflow.cores or 4
        resources:
            mem_mb=memory(2000),
            runtime=60,
        params:
            recordings=DATASET.recordings,
            settings=settings(stage.SimulateSettings.from_study(STUDY)),
        # Not Snakemake's own formatting, which looks among the importer's names where this is a module.
        message:
            f"Simulating the recordings of data set '{DATASET.name}'"
        shell:
            logged(
                "leod simulate --output {params.recordings:q} --manifest {output.manifest:q}"
                " --processes {threads} --settings {params.settings:q}"
            )


if DATASET.recordings:

    rule preprocess:
        input:
            recordings_of,
        output:
            manifest=FILES.manifest,
        log:
            FILES.log("preprocess"),
        benchmark:
            FILES.benchmark("preprocess")
        # Before trainings: while they run, one ending after the other, there are never enough cores free at once.
        priority: 20
        conda:
            "../envs/leod.yaml"
        threads: STUDY.preprocess.processes
        resources:
            mem_mb=memory(2000 * STUDY.preprocess.processes),
            runtime=480,
        params:
            recordings=DATASET.recordings,
            sequences=DATASET.sequences,
            shards=STUDY.preprocess.shards,
            settings=settings(stage.PreprocessSettings.from_study(STUDY)),
            plausibility=without_influence(DATASET.plausibility),
        message:
            "Preprocessing {wildcards.split} recordings (shard {wildcards.shard})"
        shell:
            logged(
                "leod preprocess --recordings {params.recordings:q} --output {params.sequences:q} --split {wildcards.split}"
                " --manifest {output.manifest:q} --shard {wildcards.shard} --shards {params.shards} --processes {threads}"
                " --plausibility {params.plausibility:q} --settings {params.settings:q}"
            )

else:

    rule check_sequences:
        output:
            manifest=FILES.manifest,
        log:
            FILES.log("check_sequences"),
        benchmark:
            FILES.benchmark("check_sequences")
        conda:
            "../envs/leod.yaml"
        resources:
            mem_mb=memory(2000),
            runtime=120,
        params:
            sequences=DATASET.sequences,
            # They come from elsewhere: a sequence that was added or deleted makes the check run again.
            names=lambda wildcards: describe_names(DATASET.sequences / wildcards.split),
            settings=settings(DATASET.sequence_config()),
        message:
            "Checking the {wildcards.split} sequences"
        shell:
            logged(
                "leod check-dataset {params.sequences:q} --split {wildcards.split} --output {output.manifest:q}"
                " --settings {params.settings:q}"
            )


rule subsample_labels:
    input:
        FILES.manifests("train"),
    output:
        labels=FILES.labels,
    log:
        FILES.log("subsample_labels"),
    benchmark:
        FILES.benchmark("subsample_labels")
    wildcard_constraints:
        experiment=r"(?!suggested-).*",
    # Takes a second, and the rounds wait for it.
    priority: 10
    conda:
        "../envs/leod.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=30,
    params:
        sequences=DATASET.sequences,
        settings=settings_of("subsample_labels"),
    message:
        "Choosing the labels of {wildcards.experiment}"
    shell:
        logged(
            "leod subsample-labels --sequences {params.sequences:q} --output {output.labels:q}"
            " --settings {params.settings:q}"
        )


# Labels that a detector chooses, see the labels of a study with setting: suggested.
rule suggest_labels:
    input:
        FILES.manifests("train"),
        first=lambda wildcards: FILES.first_labels(wildcards.experiment),
        model=lambda wildcards: FILES.choosing_detector(wildcards.experiment),
    output:
        labels=FILES.labels,
    log:
        FILES.log("suggest_labels"),
    benchmark:
        FILES.benchmark("suggest_labels")
    wildcard_constraints:
        experiment=r"suggested-.*",
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=min(FILES.gpus, 1),
        mem_mb=memory(8000),
        runtime=480,
    params:
        sequences=DATASET.sequences,
        first=lambda wildcards, input: " ".join(f"--first {shlex.quote(file)}" for file in input.first),
        checkpoint=lambda wildcards, input: " ".join(f"--checkpoint {shlex.quote(file)}" for file in input.model),
        hardware=without_influence(STUDY.hardware),
        settings=settings_of("suggest_labels"),
    message:
        "Choosing the labels of {wildcards.experiment} with a detector"
    shell:
        logged(
            "leod suggest-labels --sequences {params.sequences:q} --output {output.labels:q}"
            " {params.first} {params.checkpoint} --threads {threads} --hardware {params.hardware:q}"
            " --settings {params.settings:q}"
        )
