"""The Prophesee protocol against the published code's figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import EvaluationFilterConfig
from leod.evaluation.prophesee import evaluate_detections, takes_part

FIELDS = ("t", "x", "y", "w", "h", "class_id", "class_confidence")
REFERENCE_NAMES = {"AP": "AP", "AP50": "AP_50", "AP75": "AP_75", "AP_S": "AP_S", "AP_M": "AP_M", "AP_L": "AP_L"}


def entries(arrays, prefix):
    boxes = np.zeros(len(arrays[f"{prefix}/t"]), dtype=LABEL_DTYPE)
    for name in FIELDS:
        boxes[name] = arrays[f"{prefix}/{name}"]
    return np.split(boxes, np.cumsum(arrays[f"{prefix}/count"])[:-1])


def class_names(metrics):
    return [name.removeprefix("AP_50_") for name in metrics if name.startswith("AP_50_")]


def assert_metrics(result, expected):
    for ours, reference in REFERENCE_NAMES.items():
        assert result["metrics"][ours] == pytest.approx(expected[reference], abs=1e-6), ours
        for name in class_names(expected):
            value = result["per_class"][name]["prophesee"][ours]
            assert value == pytest.approx(expected[f"{reference}_{name}"], abs=1e-6), f"{ours} of {name}"


def test_metrics_and_filter_of_every_case(golden_dir):
    arrays = np.load(golden_dir / "evaluation.npz")
    cases = json.loads((golden_dir / "evaluation.json").read_text())
    assert cases
    for name, case in cases.items():
        ground_truth, detections = entries(arrays, f"{name}/gt"), entries(arrays, f"{name}/det")
        diagonal, side = arrays[f"{name}/min_diag_side"].tolist()
        config = EvaluationFilterConfig(min_diagonal=diagonal, min_side=side)
        for boxes, kept in ((ground_truth, "gt_kept_count"), (detections, "det_kept_count")):
            assert [takes_part(entry, config).sum() for entry in boxes] == arrays[f"{name}/{kept}"].tolist(), name
        classes = class_names(case["metrics"])
        result = evaluate_detections(ground_truth, detections, classes, config)
        assert_metrics(result, case["metrics"])


def load_speed_input(golden_dir):
    arrays = np.load(golden_dir / "speed_eval_input.npz")
    lists = []
    for kind in ("gt", "det"):
        boxes = np.zeros(len(arrays[f"{kind}_class_id"]), dtype=LABEL_DTYPE)
        for column, field in enumerate("xywh"):
            boxes[field] = arrays[f"{kind}_xywh_times_8"][:, column] / 8
        boxes["class_id"] = arrays[f"{kind}_class_id"]
        boxes["class_confidence"] = arrays[f"{kind}_class_confidence"]
        boxes["t"] = np.repeat(arrays["frame_t"], arrays[f"{kind}_count"])
        lists.append(np.split(boxes, np.cumsum(arrays[f"{kind}_count"])[:-1]))
    return lists[0], lists[1], json.loads(str(arrays["metrics_json"]))


def test_metrics_of_the_timing_input(golden_dir):
    ground_truth, detections, expected = load_speed_input(golden_dir)
    config = EvaluationFilterConfig(min_diagonal=30, min_side=10)
    assert_metrics(evaluate_detections(ground_truth, detections, class_names(expected), config), expected)
