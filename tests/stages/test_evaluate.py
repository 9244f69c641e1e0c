from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from tiny_sequences import CONFIG, MODEL, random_detector, random_frames, write_tiny_sequence

from leod.config.schema import DetectionConfig, EvaluationFilterConfig, HardwareConfig, ModelConfig
from leod.config.settings import EvaluateSettings
from leod.errors import CheckpointError, ConfigError, DataError
from leod.evaluation.coco import METRICS
from leod.models.checkpoint import save_detector
from leod.sequences.layout import label_file
from leod.stages.evaluate import evaluate

CPU = HardwareConfig(accelerator="cpu", num_workers=0)


def settings(**changes):
    values = {
        "sequence": CONFIG,
        "model": MODEL,
        "detection": DetectionConfig(confidence_threshold=0.1, batch_size=2, sequence_length=4),
        "evaluation_filter": EvaluationFilterConfig(skip_us=0),
    }
    return EvaluateSettings(**values | changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "model.ckpt"
    save_detector(path, random_detector())
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    boxes = [(4, 4, 16, 12, 0), (20, 2, 10, 20, 1)]
    write_tiny_sequence(root / "test" / "a", random_frames(0, 6), [2, 5], boxes)
    write_tiny_sequence(root / "test" / "b", random_frames(1, 9), [4], boxes)
    write_tiny_sequence(root / "test" / "c", random_frames(2, 3), [], [])
    return root


@pytest.mark.parametrize("variant", ["plain", "tta", "time_reversed"])
def test_the_json_says_what_was_evaluated_and_how(checkpoint, dataset, tmp_path, variant):
    output = tmp_path / "metrics" / "test.json"
    evaluate(checkpoint, dataset, output, settings(), variant=variant, hardware=CPU)
    result = json.loads(output.read_text())
    assert result["variant"] == variant
    assert result["split"] == "test"
    assert tuple(result["metrics"]) == METRICS
    assert set(result["per_class"]) == set(CONFIG.classes)
    # The last frame of sequence a cannot be seen backwards.
    assert result["counts"]["images"] == (2 if variant == "time_reversed" else 3)
    assert result["counts"]["detections"] > 0
    assert result["precision_recall"]["iou"] == 0.5
    provenance = result["provenance"]
    assert provenance["stage"] == "evaluate"
    assert provenance["inputs"] == {"checkpoint": str(checkpoint), "sequences": str(dataset / "test")}
    assert provenance["settings"]["detection"]["batch_size"] == 2
    assert [path.name for path in output.parent.iterdir()] == ["test.json"]


def test_evaluating_twice_gives_the_same_figures(checkpoint, dataset, tmp_path):
    results = []
    for name in ("one", "two"):
        evaluate(checkpoint, dataset, tmp_path / name, settings(), hardware=CPU)
        result = json.loads((tmp_path / name).read_text())
        del result["provenance"]
        results.append(result)
    assert results[0] == results[1]


def test_a_missing_checkpoint(dataset, tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt"):
        evaluate(tmp_path / "nowhere.ckpt", dataset, tmp_path / "out.json", settings(), hardware=CPU)
    assert not (tmp_path / "out.json").exists()


def test_a_checkpoint_of_another_size(checkpoint, dataset, tmp_path):
    larger = ModelConfig(name="larger", embed_dim=16, dim_head=8)
    with pytest.raises(CheckpointError, match="embed_dim"):
        evaluate(checkpoint, dataset, tmp_path / "out.json", settings(model=larger), hardware=CPU)


def test_an_empty_split(checkpoint, dataset, tmp_path):
    with pytest.raises(DataError, match="val"):
        evaluate(checkpoint, dataset, tmp_path / "out.json", settings(), split="val", hardware=CPU)


def test_a_split_without_labels(checkpoint, tmp_path):
    write_tiny_sequence(tmp_path / "data" / "test" / "a", random_frames(0, 3), [], [])
    with pytest.raises(DataError, match="no sequence has labels"):
        evaluate(checkpoint, tmp_path / "data", tmp_path / "out.json", settings(), hardware=CPU)


def test_pseudo_labels_are_no_ground_truth(checkpoint, tmp_path):
    folder = tmp_path / "data" / "test" / "a"
    write_tiny_sequence(folder, random_frames(0, 3), [1], [(4, 4, 12, 12, 0)])
    with np.load(label_file(folder)) as file:
        arrays = dict(file)
    arrays["labels"]["t"] = 0
    np.savez(label_file(folder), **arrays)
    with pytest.raises(DataError, match="pseudo-labels"):
        evaluate(checkpoint, tmp_path / "data", tmp_path / "out.json", settings(), hardware=CPU)


def test_ignored_ground_truth_is_welcome(checkpoint, tmp_path):
    write_tiny_sequence(
        tmp_path / "data" / "test" / "a", random_frames(0, 12), [11], [(4, 4, 12, 12, 0), (20, 4, 12, 12, 1024)]
    )
    evaluate(checkpoint, tmp_path / "data", tmp_path / "out.json", settings(), hardware=CPU)
    assert json.loads((tmp_path / "out.json").read_text())["counts"]["ground_truth"] == 1


def test_an_unknown_variant(checkpoint, dataset, tmp_path):
    with pytest.raises(ConfigError, match="plain, tta, time_reversed"):
        evaluate(checkpoint, dataset, tmp_path / "out.json", settings(), variant="upside_down", hardware=CPU)


def test_a_warning_when_the_filter_leaves_nothing(checkpoint, dataset, tmp_path, caplog):
    strict = settings(evaluation_filter=EvaluationFilterConfig(min_side=1000))
    with caplog.at_level(logging.WARNING):
        evaluate(checkpoint, dataset, tmp_path / "out.json", strict, hardware=CPU)
    assert "no ground truth passes" in caplog.text
    assert set(json.loads((tmp_path / "out.json").read_text())["metrics"].values()) == {0.0}
