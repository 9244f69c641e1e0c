"""Precision, recall and scores of pseudo-labels on frames small enough to check by hand."""

import numpy as np
import pytest

from leod.boxes.dtypes import LABEL_DTYPE
from leod.pseudo_labels.quality import QualityTally, ScoreRelation, decided, overlaps
from leod.sequences.frame_boxes import FrameBoxes

CLASSES = ("car", "pedestrian")


def boxes(*rows):
    """Boxes from rows (frame, x, y, w, h, class[, confidence])."""
    found = np.zeros(len(rows), LABEL_DTYPE)
    for column, name in enumerate(("x", "y", "w", "h", "class_id"), start=1):
        found[name] = [row[column] for row in rows]
    found["class_confidence"] = [row[6] if len(row) > 6 else 1.0 for row in rows]
    found["objectness"] = 0.5
    return FrameBoxes(found, np.array([row[0] for row in rows], np.int64))


TRUTH = boxes((0, 0, 0, 10, 10, 0), (0, 50, 50, 10, 10, 0), (3, 0, 0, 10, 10, 0), (3, 20, 20, 10, 10, 1))
PSEUDO = boxes(
    (0, 0, 0, 10, 10, 0, 0.93),  # right
    (0, 0, 0, 10, 5, 0, 0.12),  # half of the object: IoU 0.5, which is not above 0.5
    (0, 90, 90, 10, 10, 1, 0.93),  # no pedestrian in this frame
    (3, 20, 20, 10, 10, 0, 0.5),  # a pedestrian taken for a car
)


def test_best_overlaps():
    best = overlaps(TRUTH, PSEUDO)
    np.testing.assert_allclose(best.ground_truth, [1, 0, 0, 0])
    np.testing.assert_allclose(best.pseudo, [1, 0.5, 0, 0])
    np.testing.assert_allclose(best.pseudo_any_class, [1, 0.5, 0, 1])


def test_precision_and_recall_per_class():
    tally = QualityTally(CLASSES)
    tally.add(TRUTH, PSEUDO)
    car, pedestrian, everything = (tally.summary()[name] for name in (*CLASSES, "all"))
    assert car["frames"] == 2
    assert car["recall_50"] == pytest.approx((1 / 2 + 0) / 2)
    assert car["precision_50"] == pytest.approx((1 / 2 + 0) / 2)
    assert car["precision_25"] == pytest.approx((2 / 2 + 0) / 2)
    assert car["box_precision_50"] == pytest.approx(1 / 3)
    assert car["box_recall_50"] == pytest.approx(1 / 3)
    assert pedestrian["frames"] == 1
    assert pedestrian["precision_25"] == 0
    assert pedestrian["pseudo_boxes_per_frame"] == 0
    assert pedestrian["pseudo_boxes"] == 1
    assert everything["box_precision_50"] == pytest.approx(1 / 4)
    assert everything["ground_truth_boxes_per_frame"] == 2


def test_nothing_to_divide_by():
    summary = QualityTally(CLASSES).summary()
    assert summary["car"]["precision_50"] is None
    assert summary["all"]["box_recall_75"] is None


def test_score_bins():
    relation = ScoreRelation(CLASSES)
    relation.add(TRUTH, PSEUDO)
    car = relation.summary()["car"]["class_confidence"]
    assert car["count"] == [0, 0, 1] + [0] * 7 + [1] + [0] * 7 + [1, 0]
    assert car["mean_iou"][2] == pytest.approx(0.5)
    assert car["share_above_50"][2] == 0
    assert car["share_above_50"][18] == 1
    assert car["mean_iou"][0] is None
    assert sum(relation.summary()["pedestrian"]["objectness"]["count"]) == 0
    assert sum(relation.summary()["all"]["product"]["count"]) == 4


def test_a_score_of_one_is_in_the_last_bin():
    relation = ScoreRelation(CLASSES)
    relation.add(boxes((0, 0, 0, 10, 10, 0)), boxes((0, 0, 0, 10, 10, 0, 1.0)))
    assert relation.summary()["car"]["class_confidence"]["count"][-1] == 1


def test_boxes_in_ignored_regions_are_neither_right_nor_wrong():
    truth = boxes((0, 0, 0, 20, 20, 1024), (0, 4, 4, 6, 6, 0), (1, 0, 0, 20, 20, 1024))
    found = boxes(
        (0, 12, 12, 6, 6, 0),  # inside the ignored box, on nothing
        (0, 5, 5, 6, 6, 0),  # inside it, on an object
        (0, 15, 0, 10, 10, 1),  # half of it inside
        (0, 16, 0, 10, 10, 1),  # less than half
        (2, 5, 5, 6, 6, 0),  # another frame
    )
    assert decided(truth, found).boxes["x"].tolist() == [5, 16, 5]
    assert decided(truth, found).frame_indices.tolist() == [0, 0, 2]
