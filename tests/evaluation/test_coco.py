from __future__ import annotations

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from leod.boxes.dtypes import LABEL_DTYPE
from leod.evaluation.coco import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    METRICS,
    RECALL_POINTS,
    compute_precision,
    no_detection_metrics,
)


def boxes(*class_ids):
    rows = np.zeros(len(class_ids), dtype=LABEL_DTYPE)
    rows["x"], rows["y"], rows["w"], rows["h"] = 50, 50, 40, 40
    rows["class_id"], rows["class_confidence"] = class_ids, 1
    return rows


def precision(ground_truth, detections, classes, images=None):
    images = np.zeros(len(ground_truth), dtype=np.int64) if images is None else images
    return compute_precision(ground_truth, images, detections, np.zeros(len(detections), dtype=np.int64), 2, classes)


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


def random_boxes(generator, count, images):
    rows = np.zeros(count, dtype=LABEL_DTYPE)
    for field, low, high in (("x", 0, 100), ("y", 0, 100), ("w", 2, 120), ("h", 2, 120)):
        # Few different numbers: some boxes are equal, and areas lie on the borders of the ranges.
        rows[field] = np.round(generator.uniform(low, high, count) / 8) * 8
    rows["class_id"] = generator.integers(0, 3, count)
    rows["class_confidence"] = np.round(generator.random(count), 1)
    return rows, generator.integers(0, images, count)


def reference_table(ground_truth, detections, ignored, images, classes):
    """The tables of faster-coco-eval, which takes dictionaries."""

    def annotations(rows, of_images, first_id=1, **more):
        areas = (rows["w"] * rows["h"]).astype(np.float64).tolist()
        return [
            {
                "id": first_id + number,
                "image_id": int(image) + 1,
                "category_id": int(row["class_id"]) + 1,
                "bbox": [float(row[name]) for name in ("x", "y", "w", "h")],
                "area": area,
                "iscrowd": 0,
                "score": float(row["class_confidence"]),
                **more,
            }
            for number, (row, image, area) in enumerate(zip(rows, of_images, areas, strict=True))
        ]

    def dataset(content):
        return COCO(
            {
                "info": {},
                "images": [{"id": number + 1, "height": 240, "width": 304} for number in range(images)],
                "annotations": content,
                "categories": [{"id": class_id + 1, "name": str(class_id)} for class_id in classes],
            },
            print_function=lambda *_: None,
        )

    objects = annotations(*ground_truth)
    for class_id in classes:
        regions = ignored[0].copy()
        regions["class_id"] = class_id
        objects += annotations(regions, ignored[1], first_id=len(objects) + 1, iscrowd=1)
    evaluator = COCOeval_faster(
        dataset(objects), dataset(annotations(*detections)), "bbox", print_function=lambda *_: None
    )
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.iouThrs, evaluator.params.recThrs = IOU_THRESHOLDS, RECALL_POINTS
    evaluator.params.areaRng = [list(bounds) for bounds in AREA_RANGES.values()]
    evaluator.params.areaRngLbl = list(AREA_RANGES)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"][..., 0], evaluator.eval["scores"][..., 0]


@pytest.mark.parametrize(
    ("objects", "found", "regions", "images"),
    [
        (60, 200, 0, 12),
        (60, 200, 15, 12),  # ignored regions
        (10, 900, 0, 2),  # more than a hundred detections of a class in an image
        (5, 40, 3, 40),  # images without anything
        (40, 1, 0, 5),
        (1, 40, 0, 5),  # classes without objects
    ],
)
def test_tables_equal_those_of_faster_coco_eval_in_every_bit(objects, found, regions, images):
    for seed in range(3):
        generator = np.random.default_rng(seed)
        ground_truth = random_boxes(generator, objects, images)
        detections = random_boxes(generator, found, images)
        # Half of the detections lie near an object.
        chosen = generator.integers(0, objects, found // 2)
        detections[0][: found // 2] = ground_truth[0][chosen]
        detections[0]["x"] += np.round(generator.normal(0, 4, found))
        detections[0]["class_confidence"] = np.round(generator.random(found), 1)
        detections[1][: found // 2] = ground_truth[1][chosen]
        ignored = random_boxes(generator, regions, images)
        table = compute_precision(*ground_truth, *detections, images, range(3), *ignored)
        precision, score = reference_table(ground_truth, detections, ignored, images, range(3))
        np.testing.assert_array_equal(table.precision, precision)
        np.testing.assert_array_equal(table.score, score)
