"""The presets of the paper's studies against the published settings, each with its source.

Sources are files of the public repository Wuziyi616/LEOD; "paper" is Wu et al., CVPR 2024.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from leod.config.load import load_study
from leod.config.schema import TrainingConfig
from leod.config.settings import (
    EvaluateSettings,
    GenerateSettings,
    SubsampleSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.study.experiments import study_experiments

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

STEPS = {0.01: 200_000, 0.02: 300_000, 0.05: 400_000, 0.1: 400_000, 1.0: 400_000}
"""Label ratio → steps of pretraining; docs/benchmark.md and the paper's appendix A.2."""

DATASETS = {
    "gen1": {
        "sensor": (240, 304),  # config/dataset/gen1.yaml
        "padded": (256, 320),  # config/experiment/gen1/default.yaml, config/modifier.py
        "partition": (8, 10),  # likewise
        "classes": ("car", "pedestrian"),  # config/modifier.py
        "label_offset": -1,  # config/dataset/base.yaml, tflip_offset
        "learning_rate": 2e-4,  # config/experiment/gen1/default.yaml
        "batch_size": 8,  # docs/benchmark.md: 8 on one GPU
        "devices": 1,  # likewise
        "few_labels_length": 21,  # config/dataset/gen1.yaml, sequence_length
        "length": 21,  # likewise
        "evaluation_batch": 16,  # docs/benchmark.md
        "evaluation_filter": (30, 10),  # the Prophesee protocol
    },
    "one-mpx": {
        "sensor": (720, 1280),  # config/dataset/gen4.yaml
        "padded": (384, 640),  # model config's partition_split_32 and config/modifier.py
        "partition": (6, 10),  # likewise
        "classes": ("pedestrian", "two-wheeler", "car"),  # config/modifier.py
        "label_offset": -2,  # config/dataset/gen4.yaml, tflip_offset
        "learning_rate": 3.46e-4,  # config/experiment/gen4/default.yaml
        "batch_size": 24,  # docs/benchmark.md: 12 on each of two GPUs
        "devices": 2,  # likewise
        "few_labels_length": 10,  # config/dataset/gen4x0.01_ss.yaml and the like
        "length": 5,  # config/dataset/gen4.yaml
        "evaluation_batch": 8,  # docs/benchmark.md
        "evaluation_filter": (30, 10),  # the Prophesee protocol, 60 and 20 halved
    },
}

WEAK_ONE_MPX = ("one-mpx", "weakly-supervised")
SETTINGS = ("weakly-supervised", "semi-supervised")
SIZES = {
    # config/experiment/gen1/{small,base}.yaml, the same for gen4
    "small": {"embed_dim": 48, "dim_head": 24, "fpn_depth": 0.33},
    "base": {"embed_dim": 64, "dim_head": 32, "fpn_depth": 0.67},
}
PRESETS = [(dataset, setting, size) for dataset in DATASETS for setting in SETTINGS for size in SIZES]


def score_thresholds(dataset: str, setting: str) -> dict[str, float]:
    """config/model/pseudo_labeler.yaml; weakly supervised 1 Mpx: pseudo_labeler-gen4-wsod.yaml; order: modifier.py."""
    low = 0.5 if (dataset, setting) == WEAK_ONE_MPX else 0.3
    return {name: 0.6 if name == "car" else low for name in DATASETS[dataset]["classes"]}


def ignore_thresholds(dataset: str, setting: str) -> dict[str, float]:
    """config/model/rnndet-soft.yaml, in weakly supervised 1 Mpx rnndet-soft-gen4-wsod.yaml; order: modifier.py."""
    low = 0.55 if (dataset, setting) == WEAK_ONE_MPX else 0.35
    return {name: 0.7 if name == "car" else low for name in DATASETS[dataset]["classes"]}


@pytest.fixture(params=PRESETS, ids="-".join)
def preset(request):
    dataset, setting, size = request.param
    return dataset, setting, size, load_study(CONFIGS / f"{dataset}-{setting}-{size}.yaml")


def test_there_are_no_other_presets() -> None:
    found = {path.stem for path in CONFIGS.glob("*supervised*.yaml")}
    assert found == {"-".join(preset) for preset in PRESETS}


def test_data_set_and_model(preset) -> None:
    name, _, size, study = preset
    expected, dataset = DATASETS[name], study.dataset
    assert (dataset.sensor.height, dataset.sensor.width) == expected["sensor"]
    assert dataset.padded_size == expected["padded"]
    assert dataset.partition_size == expected["partition"]
    assert dataset.classes == expected["classes"]
    assert dataset.time_reversal_label_offset == expected["label_offset"]
    assert dataset.downsample_by_2 == (name == "one-mpx")  # config/dataset/gen4.yaml
    filter = dataset.evaluation_filter
    assert (filter.min_diagonal, filter.min_side) == expected["evaluation_filter"]
    assert filter.skip_us == 500_000
    # ev_repr_name: stacked_histogram_dt=50_nbins=10
    assert (dataset.representation.kind, dataset.representation.bins, dataset.window_us) == (
        "stacked_histogram",
        10,
        50_000,
    )
    assert dataset.representation.count_cutoff == 10
    # uzh-rpg/RVT, scripts/genx/preprocess_dataset.py, dirs_to_ignore
    assert len(dataset.skip_recordings) == (4 if name == "gen1" else 0)
    assert study.model.model_dump(include=set(SIZES[size])) == SIZES[size]
    assert study.model.name == f"rvt-{size}"


def test_experiments(preset) -> None:
    name, setting, _, study = preset
    budgets = {(budget.setting, budget.ratio) for budget in study.labels}
    few = {(setting.replace("-", "_"), ratio) for ratio in STEPS if ratio < 1}
    # Self-training on top of all labels belongs to the weakly supervised table (paper, Sec. 4.3).
    assert budgets == few | ({("fully_supervised", 1.0)} if setting == "weakly-supervised" else set())
    assert study.split_offsets == (0, 1, 2)  # paper, Sec. 4.1
    assert study.rounds == 2  # docs/benchmark.md, "the second round"
    assert study.references == ("fully_supervised",)
    assert study.hardware.devices == DATASETS[name]["devices"]
    for experiment in study_experiments(study):
        # Splits were made with the sequence length of pretraining in force.
        if experiment.budget.setting != "fully_supervised":
            history = SubsampleSettings.from_study(study, experiment.budget, experiment.split_offset).history
            assert history == DATASETS[name]["few_labels_length"]


def test_pretraining(preset) -> None:
    name, _, _, study = preset
    expected = DATASETS[name]
    budgets = {experiment.budget for experiment in study_experiments(study)}
    assert any(budget.setting == "fully_supervised" for budget in budgets)
    for budget in budgets:
        training = TrainSettings.for_pretraining(study, budget).training
        all_labels = budget.setting == "fully_supervised"
        assert training.steps == STEPS[budget.ratio]
        assert training.learning_rate == expected["learning_rate"]
        assert training.sequence_length == expected["length" if all_labels else "few_labels_length"]
        # config/dataset/gen1x0.01_ss.yaml and the like; config/dataset/base.yaml
        assert training.augmentation.time_reversal == (0.0 if all_labels else 0.5)
        assert training.loss.ignore_thresholds is None  # config/model/rnndet.yaml
        check_common(training, expected)


def test_self_training(preset) -> None:
    name, setting, _, study = preset
    training = TrainSettings.for_self_training(study).training
    assert training.steps == 150_000  # docs/benchmark.md
    assert training.learning_rate == 5e-4  # docs/benchmark.md
    assert training.sequence_length == DATASETS[name]["length"]  # config/dataset/gen1x0.01_ss-1round.yaml
    assert training.augmentation.time_reversal == 0.5  # likewise
    assert training.initial_weights == "scratch"  # config/general.yaml, weight
    assert training.loss.ignore_thresholds == ignore_thresholds(name, setting)
    check_common(training, DATASETS[name])


def check_common(training: TrainingConfig, expected: dict) -> None:
    assert training.batch_size == expected["batch_size"]
    assert (training.accumulate, training.burn_in) == (1, 0)
    # config/experiment/gen1/default.yaml, the same for gen4
    assert training.precision == "16-mixed"
    assert (training.warmup_fraction, training.start_divisor, training.final_divisor) == (0.005, 20, 10_000)
    assert (training.sampling, training.random_weight, training.stream_weight) == ("mixed", 1, 1)
    # config/general.yaml
    assert (training.weight_decay, training.clip_value) == (0, 1.0)
    assert training.validation.every_steps == 20_000
    assert training.validation.sequence_fraction == 0.5  # config/dataset/gen1x0.01_ss.yaml, val_ratio
    # config/dataset/base.yaml
    augmentation = training.augmentation
    assert (augmentation.mirror, augmentation.rotation) == (0.5, 0.0)
    assert (augmentation.min_rotation_deg, augmentation.max_rotation_deg) == (2, 6)
    zoom = augmentation.random_zoom
    assert (zoom.probability, zoom.zoom_in_weight, zoom.zoom_out_weight) == (0.8, 8, 2)
    assert (zoom.max_zoom_in, zoom.max_zoom_out) == (1.5, 1.2)
    zoom = augmentation.stream_zoom
    assert (zoom.probability, zoom.zoom_in_weight, zoom.max_zoom_out) == (0.5, 0, 1.2)
    assert zoom.zoom_out_weight > 0
    # config/model/rnndet-soft.yaml
    loss = training.loss
    assert (loss.box_weighting, loss.ignore_background_fraction, loss.objectness_focal) == (None, 0, False)


def test_pseudo_labels(preset) -> None:
    name, setting, _, study = preset
    generate = GenerateSettings.from_study(study)
    assert (generate.views.mirror, generate.views.time_reversal) == (True, True)  # config/predict.yaml, tta
    assert generate.detection.confidence_threshold == 0.01  # docs/benchmark.md
    assert generate.detection.nms_threshold == 0.45  # config/model/pseudo_labeler.yaml
    assert generate.score_thresholds == score_thresholds(name, setting)
    assert generate.skip_first_frames == 0  # config/model/pseudo_labeler.yaml, skip_first_t
    assert (generate.box_filter.min_side, generate.box_filter.max_width_fraction) == (5, 0.9)  # modules/utils/ssod.py
    assert generate.use_ground_truth  # config/predict.yaml, use_gt
    tracking = TrackFilterSettings.from_study(study).track_filter
    # config/model/pseudo_labeler.yaml, modules/tracking
    assert (tracking.enabled, tracking.min_track_length, tracking.direction, tracking.inpaint) == (
        True,
        6,
        "forward_or_backward",
        True,
    )
    assert tracking.iou_threshold == 0.45


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("one-mpx-*.yaml")))
def test_noisy_ground_truth_of_1_mpx_can_be_replaced(name) -> None:
    study = load_study(CONFIGS / f"{name}.yaml", ["pseudo_labels.use_ground_truth=false"])
    assert not GenerateSettings.from_study(study).use_ground_truth
    assert not TrackFilterSettings.from_study(study).use_ground_truth


def test_evaluation(preset) -> None:
    name, _, _, study = preset
    # docs/benchmark.md; val.py always reads the test split
    assert study.evaluate.split == "test"
    assert study.evaluate.variants == ("plain", "tta", "time_reversed")
    detection = EvaluateSettings.from_study(study).detection
    assert (detection.confidence_threshold, detection.nms_threshold) == (0.001, 0.45)
    assert detection.sequence_length == DATASETS[name]["length"]
    assert (detection.batch_size, detection.precision) == (DATASETS[name]["evaluation_batch"], "16-mixed")
