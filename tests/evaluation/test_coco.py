from __future__ import annotations

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.evaluation.coco import METRICS, compute_precision, no_detection_metrics


def boxes(*class_ids):
    rows = np.zeros(len(class_ids), dtype=LABEL_DTYPE)
    rows["x"], rows["y"], rows["w"], rows["h"] = 50, 50, 40, 40
    rows["class_id"], rows["class_confidence"] = class_ids, 1
    return rows


def precision(ground_truth, detections, classes, images=None):
    images = np.zeros(len(ground_truth), dtype=np.int64) if images is None else images
    return compute_precision(
        ground_truth, images, detections, np.zeros(len(detections), dtype=np.int64), 2, classes, (240, 304)
    )


def test_table_shape_and_the_mean_over_classes():
    table = precision(boxes(0, 1), boxes(0), classes=range(3))
    assert table.precision.shape == table.score.shape == (10, 101, 3, 4)
    assert table.metrics(0)["AP"] == pytest.approx(1)
    assert table.metrics(1)["AP"] == 0
    assert table.metrics(2)["AP"] == -1
    assert table.metrics()["AP"] == pytest.approx(0.5)


def test_any_selection_of_classes_can_be_evaluated():
    table = precision(boxes(2), boxes(2), classes=[2])
    assert table.precision.shape[2] == 1
    assert table.metrics()["AP"] == pytest.approx(1)


def test_boxes_of_different_images_do_not_match():
    table = precision(boxes(0), boxes(0), classes=[0], images=np.array([1]))
    assert table.metrics()["AP"] == 0


def test_the_input_is_left_alone():
    truth = boxes(0)
    before = truth.copy()
    precision(truth, truth, classes=[0])
    np.testing.assert_array_equal(truth, before)


def test_no_detections_are_zeros():
    assert no_detection_metrics() == dict.fromkeys(METRICS, 0.0)
