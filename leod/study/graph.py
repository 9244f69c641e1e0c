"""The jobs of a study with what each waits for, as the rules of the workflow have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leod.sequences.layout import SPLITS
from leod.study.study import Study

LOCAL_RULES = ("write_plan", "write_study", "summarise", "write_report")
"""The rules of the study as a whole, whose jobs `Study.jobs` does not tell."""

PRIORITIES = {"preprocess": 20} | dict.fromkeys(
    ("subsample_labels", "choose_thresholds", "generate_pseudo_labels", "track_filter", "self_train"), 10
)
"""Rule → priority of its jobs, as in `rules/`; the others have none."""

PRIORITY_BEFORE_ROUNDS = 10
"""Of a pretraining that rounds of self-training wait for."""


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        rule: Its rule.
        wildcards: What distinguishes it from the rule's other jobs: experiment, round, split, shard, variant.
        after: Positions of the jobs whose results it reads, in the list that it is part of.
        priority: Of jobs that can start, those with the highest one do.
    """

    rule: str
    wildcards: dict[str, Any]
    after: tuple[int, ...]
    priority: int


def study_graph(study: Study) -> list[Job]:
    """All jobs of a study, each after those that it waits for are named by position.

    Jobs wait for the files that they read, so this follows the inputs and outputs of `rules/`.
    """
    entries = [*study.jobs(), *((rule, {}) for rule in LOCAL_RULES)]
    made_by = {path: number for number, entry in enumerate(entries) for path in _outputs(study, *entry)}
    after = [tuple(sorted({made_by[path] for path in _inputs(study, *entry) if path in made_by})) for entry in entries]
    return [
        Job(rule, wildcards, after[number], _priority(study, rule, wildcards))
        for number, (rule, wildcards) in enumerate(entries)
    ]


def _priority(study: Study, rule: str, wildcards: dict[str, Any]) -> int:
    if rule == "pretrain" and study.feeds_rounds(wildcards["experiment"]):
        return PRIORITY_BEFORE_ROUNDS
    return PRIORITIES.get(rule, 0)


def _outputs(study: Study, rule: str, wildcards: dict[str, Any]) -> Iterator[str]:
    folder = study.round.format(**wildcards) if "round" in wildcards else ""
    if rule == "simulate":
        yield f"{study.config.dataset.recordings}/manifest.json"
    elif rule in ("preprocess", "check_sequences"):
        yield study.manifest.format(**wildcards)
    elif rule in ("subsample_labels", "suggest_labels"):
        yield study.labels.format(**wildcards)
    elif rule in ("pretrain", "self_train"):
        yield f"{folder}/model.ckpt"
    elif rule == "choose_thresholds":
        yield f"{folder}/thresholds.json"
    elif rule == "generate_pseudo_labels":
        yield f"{folder}/predictions/{wildcards['shard']}.h5"
    elif rule == "track_filter":
        yield f"{folder}/dataset"
    elif rule == "validate_quality":
        yield f"{folder}/quality.json"
    elif rule == "evaluate":
        yield f"{folder}/metrics/{wildcards['split']}_{wildcards['variant']}.json"
    else:
        yield rule


def _inputs(study: Study, rule: str, wildcards: dict[str, Any]) -> list[str]:
    experiment, round = wildcards.get("experiment", ""), wildcards.get("round", 0)
    if rule == "preprocess":
        return [f"{study.config.dataset.recordings}/manifest.json"]
    if rule in ("subsample_labels", "suggest_labels"):
        chosen_by = [*study.first_labels(experiment), *study.choosing_detector(experiment)]
        return [*study.manifests("train"), *(chosen_by if rule == "suggest_labels" else [])]
    if rule == "pretrain":
        return [*study.pretraining_sequences(experiment), study.labels_of(experiment)]
    if rule == "choose_thresholds":
        return [*study.manifests("val"), study.model(experiment, round - 1)]
    if rule == "generate_pseudo_labels":
        return [
            *study.manifests("train"),
            study.model(experiment, round - 1),
            study.labels_of(experiment),
            *study.chosen_thresholds(experiment, round),
        ]
    if rule == "track_filter":
        return [
            *study.manifests(*SPLITS),
            *study.predictions(experiment, round),
            study.labels_of(experiment),
            *study.keep_thresholds(experiment, round),
        ]
    if rule == "validate_quality":
        return [
            *study.manifests("train"),
            *study.predictions(experiment, round),
            study.labels_of(experiment),
            *study.pseudo_labels(experiment, round),
        ]
    if rule == "self_train":
        return [
            *study.manifests("train", "val"),
            *study.pseudo_labels(experiment, round),
            *study.previous_detector(experiment, round),
        ]
    if rule == "evaluate":
        return [*study.manifests(wildcards["split"]), f"{study.round.format(**wildcards)}/model.ckpt"]
    if rule == "summarise":
        return ["write_plan", *_results(study, "metrics", "record", "quality")]
    if rule == "write_report":
        return [*study.manifests(*SPLITS), "write_plan", "summarise", *_results(study)]
    return []


def _results(study: Study, *kinds: str) -> list[str]:
    """Files of all detectors; records and curves stand beside the detector, by which their training is found."""
    return [
        str(path.with_name("model.ckpt") if kind in ("record", "curves") else path)
        for detector in study.plan().detectors
        for kind in kinds or ("labels", "model", "curves", "metrics", "dataset", "quality", "thresholds")
        for path in detector.results(kind)
    ]
