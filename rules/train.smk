# Detectors: pretraining (round 0) and self-training (round 1, 2, …).
rule pretrain:
    input:
        lambda wildcards: FILES.pretraining_sequences(wildcards.experiment),
        weights=lambda wildcards: FILES.published_weights(wildcards.experiment),
        labels=labels_of,
    output:
        model=f"{FILES.first_round}/model.ckpt",
        curves=f"{FILES.first_round}/training.csv",
        record=f"{FILES.first_round}/training.json",
    log:
        FILES.log("pretrain"),
    benchmark:
        FILES.benchmark("pretrain")
    priority: priority_of_pretraining()
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=FILES.gpus,
        nodes=1,
        mem_mb=memory(16000),
        runtime=4320,
        on_terminate=STUDY.hardware.on_terminate,
        time_limit_min=0,
        launcher="",
    params:
        sequences=DATASET.sequences,
        folder=subpath(output.model, parent=True),
        seed=lambda wildcards: FILES.experiments[wildcards.experiment].seed,
        hardware=without_influence(STUDY.hardware),
        settings=settings_of("pretrain"),
    message:
        "Pretraining {wildcards.experiment}"
    shell:
        logged(
            "{resources.launcher} leod pretrain --sequences {params.sequences:q} --labels {input.labels:q} --output {params.folder:q}"
            " --seed {params.seed} --threads {threads} --hardware {params.hardware:q}"
            " --on-terminate {resources.on_terminate} --time-limit {resources.time_limit_min}"
            " --settings {params.settings:q}"
        )


rule self_train:
    input:
        # The train split's events, which the pseudo-labelled data set links to, and the original val split.
        FILES.manifests("train", "val"),
        pseudo_labels=pseudo_labels_of,
        previous=lambda wildcards: FILES.previous_detector(wildcards.experiment, int(wildcards.round)),
    output:
        model=f"{ROUND}/model.ckpt",
        curves=f"{ROUND}/training.csv",
        record=f"{ROUND}/training.json",
    log:
        FILES.log("self_train"),
    benchmark:
        FILES.benchmark("self_train")
    wildcard_constraints:
        round=r"[1-9]\d*",
    # Before evaluations: the next round waits for this.
    priority: 10
    conda:
        "../envs/leod.yaml"
    threads: threads_of_detector()
    resources:
        gpu=FILES.gpus,
        nodes=1,
        mem_mb=memory(16000),
        runtime=4320,
        on_terminate=STUDY.hardware.on_terminate,
        time_limit_min=0,
        launcher="",
    params:
        sequences=DATASET.sequences,
        dataset=lambda wildcards: FILES.training_set(wildcards.experiment, int(wildcards.round)),
        folder=subpath(output.model, parent=True),
        previous=lambda wildcards, input: " ".join(f"--previous {shlex.quote(file)}" for file in input.previous),
        seed=lambda wildcards: FILES.experiments[wildcards.experiment].seed,
        hardware=without_influence(STUDY.hardware),
        settings=settings_of("self_train"),
    message:
        "Self-training {wildcards.experiment}, round {wildcards.round}"
    shell:
        logged(
            "{resources.launcher} leod self-train --dataset {params.dataset:q} --sequences {params.sequences:q} --output {params.folder:q}"
            " {params.previous} --seed {params.seed} --threads {threads} --hardware {params.hardware:q}"
            " --on-terminate {resources.on_terminate} --time-limit {resources.time_limit_min}"
            " --settings {params.settings:q}"
        )
