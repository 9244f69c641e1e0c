"""What a change makes stale (the table of what each stage depends on), asked of `snakemake -n`."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from checkout import REPOSITORY, Checkout

from leod.config.schema import StudyConfig
from leod.study.plan import read_plan
from leod.study.study import Study


def set_value(study: dict, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        # The file shares one block between the two trainings; here each gets its own.
        study[parent] = copy.deepcopy(study.get(parent, {}))
        study = study[parent]
    study[last] = value


SUMMARY = {"summarise": 1, "write_report": 1}
AN_ARM = {"write_plan": 1} | SUMMARY
SELF_TRAINING = {"generate_pseudo_labels": 2, "track_filter": 2, "validate_quality": 2, "self_train": 2, "evaluate": 2}
# Detectors: rounds 0 to 2, the control, the ceiling.
TRAINING = SELF_TRAINING | {"pretrain": 3, "evaluate": 5}
EVERYTHING = TRAINING | {"preprocess": 3, "subsample_labels": 2}
ANOTHER_EXPERIMENT = SELF_TRAINING | {"subsample_labels": 1, "pretrain": 2, "evaluate": 4, "write_plan": 1}

CASES = {
    # what is changed → (key, another value than the study's, jobs that run again with their number)
    "evaluation threshold": ("evaluate.detection", {"confidence_threshold": 0.05}, {"evaluate": 5} | SUMMARY),
    "variants of evaluation": (
        "evaluate.variants",
        ["plain", "tta"],
        {"evaluate": 5, "write_plan": 1} | SUMMARY,
    ),
    "boxes that evaluations leave out, also those of training": (
        "dataset.evaluation_filter",
        {"min_side": 7},
        TRAINING | SUMMARY,
    ),
    "track length reruns no inference of round 1": (
        "track_filter",
        {"min_track_length": 4},
        SELF_TRAINING | {"generate_pseudo_labels": 1} | SUMMARY,
    ),
    "smoothing, which quality has to know of": (
        "track_filter",
        {"smooth_frames": 4},
        SELF_TRAINING | {"generate_pseudo_labels": 1} | SUMMARY,
    ),
    "self-training rate leaves pretraining alone": (
        "self_train.learning_rate",
        1e-4,
        SELF_TRAINING | {"generate_pseudo_labels": 1, "track_filter": 1, "validate_quality": 1} | SUMMARY,
    ),
    "which labels the loss ignores is what quality is measured by": (
        "self_train.loss",
        {"ignore_thresholds": {"car": 0.9, "pedestrian": 0.9}},
        SELF_TRAINING | {"generate_pseudo_labels": 1, "track_filter": 1} | SUMMARY,
    ),
    "score threshold keeps pretraining": (
        "pseudo_labels.score_thresholds",
        {"car": 0.9, "pedestrian": 0.9},
        SELF_TRAINING | SUMMARY,
    ),
    "merging of the views": (
        "pseudo_labels.merging",
        {"method": "weighted_box_fusion"},
        SELF_TRAINING | SUMMARY,
    ),
    "merging of the views of evaluations": (
        "evaluate.merging",
        {"method": "weighted_box_fusion"},
        {"evaluate": 5} | SUMMARY,
    ),
    "views": ("pseudo_labels.views", {"mirror": False}, SELF_TRAINING | SUMMARY),
    "shards": (
        "pseudo_labels.shards",
        2,
        SELF_TRAINING | {"generate_pseudo_labels": 4, "write_plan": 1} | SUMMARY,
    ),
    "pretraining rate": ("pretrain.learning_rate", 1e-4, TRAINING | SUMMARY),
    "longer training of the reference": (
        "reference_pretrain.steps",
        1200,
        {"pretrain": 1, "evaluate": 1} | SUMMARY,
    ),
    "model": ("model", "rvt-tiny", TRAINING | SUMMARY),
    "label ratio": ("labels", [{"setting": "weakly_supervised", "ratio": 0.1}], ANOTHER_EXPERIMENT | SUMMARY),
    "split offset": ("split_offsets", [1], ANOTHER_EXPERIMENT | SUMMARY),
    "another round, with the control and the ceiling that train as long": (
        "rounds",
        3,
        dict.fromkeys(("generate_pseudo_labels", "track_filter", "validate_quality", "self_train"), 1)
        | {"pretrain": 2, "evaluate": 3, "write_plan": 1}
        | SUMMARY,
    ),
    "one round less": ("rounds", 1, {"pretrain": 2, "evaluate": 2, "write_plan": 1} | SUMMARY),
    "longer self-training, with the control and the ceiling that train as long": (
        "self_train.steps",
        400,
        SELF_TRAINING
        | {"generate_pseudo_labels": 1, "track_filter": 1, "validate_quality": 1, "pretrain": 2, "evaluate": 4}
        | SUMMARY,
    ),
    "an oracle": ("references", ["control", "fully_supervised", "oracle"], AN_ARM | {"self_train": 1, "evaluate": 1}),
    "an arm that is trained otherwise": (
        "arms",
        {"scratch": {"rounds": 1, "self_train": {"initial_weights": "scratch"}}},
        AN_ARM | {"self_train": 1, "evaluate": 1},
    ),
    "representation": ("dataset.representation", {"count_cutoff": 5}, EVERYTHING | SUMMARY),
    "windows": ("dataset.windows", {"train_until": "last_event"}, EVERYTHING | SUMMARY),
    "boxes that are too small": ("dataset.label_filter", {"min_side": 9}, EVERYTHING | SUMMARY),
    "simulation": ("dataset.simulate", {"seed": 5}, EVERYTHING | {"simulate": 1} | SUMMARY),
    "limits of plausibility leave sequences alone": (
        "dataset.plausibility",
        {"max_cut_boxes": 0.1},
        {"write_report": 1},
    ),
    "what the report shows": ("report.confidence_threshold", 0.4, {"write_report": 1}),
    "use of the machine": ("hardware.num_workers", 3, {}),
    "threads": ("hardware.threads", 2, {}),
}


def resolved(study: dict) -> StudyConfig:
    return Study(study, [REPOSITORY / "configs"], "study.yaml").config


def test_finished_study_has_nothing_to_do(finished: Checkout) -> None:
    assert finished.pending() == {}


def test_every_job_notes_its_time_where_the_report_looks(finished: Checkout) -> None:
    plan = read_plan(finished.folder / "results" / "quickstart" / "plan.json")
    missing = [benchmark.path for benchmark in plan.benchmarks if not (finished.folder / benchmark.path).is_file()]
    assert plan.benchmarks
    assert missing == []


@pytest.mark.parametrize("case", CASES)
def test_changed_setting_reruns_only_what_uses_it(finished: Checkout, case: str) -> None:
    key, value, expected = CASES[case]
    before = resolved(finished.study)
    set_value(finished.study, key, value)
    assert resolved(finished.study) != before, "the study says so already: this row could not fail"
    jobs = finished.pending()
    # Whatever is done again, the configuration is written down again.
    assert jobs == (expected | {"write_study": 1} if expected else {})


def test_another_seed_leaves_the_first_one_alone(finished: Checkout) -> None:
    finished.study["seeds"] = [0, 1]
    assert finished.pending() == {
        "subsample_labels": 2,
        "pretrain": 3,
        "generate_pseudo_labels": 2,
        "track_filter": 2,
        "validate_quality": 2,
        "self_train": 2,
        "evaluate": 5,
        "write_plan": 1,
        "write_study": 1,
        "summarise": 1,
        "write_report": 1,
    }


def test_removed_detector_is_trained_again_with_what_follows(finished: Checkout) -> None:
    next((finished.folder / "results" / "quickstart").glob("weakly*/round_2/model.ckpt")).unlink()
    assert finished.pending() == {"self_train": 1, "evaluate": 1, "summarise": 1, "write_report": 1}


def test_chosen_thresholds_come_from_the_previous_detector(checkout: Checkout) -> None:
    set_value(checkout.study, "pseudo_labels.choose_thresholds", {"target_precision": 0.9, "max_background": 0.1})
    checkout.study["pseudo_labels"].pop("score_thresholds")
    result = checkout.snakemake("-n", "-p")
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "leod " in line]
    made_by = [
        line.split()[line.split().index("--checkpoint") + 1] for line in lines if "leod choose-thresholds" in line
    ]
    assert sorted(Path(path).parent.name for path in made_by) == ["round_0", "round_1"]
    generating = [line for line in lines if "leod generate-pseudo-labels" in line]
    assert len(generating) == 2
    for line in generating:
        round_folder = line.split("--output ")[1].split("/predictions/")[0]
        assert f"--thresholds {round_folder}/thresholds.json" in line
    # Which of their boxes are weak was chosen with them.
    filtering = [line for line in lines if "leod track-filter" in line]
    assert len(filtering) == 2
    for line in filtering:
        round_folder = line.split("--output ")[1].split("/dataset")[0]
        assert f"--thresholds {round_folder}/thresholds.json" in line


def test_unknown_key_is_an_error_that_names_it(checkout: Checkout) -> None:
    set_value(checkout.study, "pretrain.step", 3)
    result = checkout.snakemake("-n", check=False)
    assert result.returncode != 0
    message = result.stdout + result.stderr
    assert "configs/study.yaml" in message
    assert "unknown key 'pretrain.step' (value 3); did you mean 'steps'?" in message


def test_full_size_study_is_planned_in_seconds_without_data(checkout: Checkout) -> None:
    result = checkout.snakemake("-n", "--configfile", "configs/gen1-weakly-supervised-small.yaml")
    output = result.stdout + result.stderr
    assert "data/gen1 does not exist yet. Put its preprocessed sequences into data/gen1/train" in output
    total = next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total"))
    assert 100 < total < 3000


def test_changed_use_of_the_machine_hides_no_other_change(finished: Checkout) -> None:
    set_value(finished.study, "hardware.num_workers", 3)
    set_value(finished.study, "report.confidence_threshold", 0.4)
    assert finished.pending() == {"write_report": 1, "write_study": 1}


def test_changed_use_of_the_machine_touches_nothing_when_run(finished: Checkout) -> None:
    set_value(finished.study, "hardware.num_workers", 3)
    model = next((finished.folder / "results" / "quickstart").glob("weakly*/round_0/model.ckpt"))
    before = model.stat().st_mtime_ns
    finished.snakemake()
    assert model.stat().st_mtime_ns == before
    assert finished.pending() == {}
