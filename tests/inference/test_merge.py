from __future__ import annotations

import numpy as np

from leod.boxes.dtypes import LABEL_DTYPE
from leod.inference.merge import ViewCollector, merge_views
from leod.inference.views import PLAIN, TIME_REVERSED, View
from leod.sequences.frame_boxes import FrameBoxes


def rows(*boxes):
    return np.array(list(boxes), dtype=LABEL_DTYPE)


def pseudo(x, score=0.9, class_id=0, width=10):
    return (0, x, 10, width, 10, class_id, score, 1.0)


def truth(x):
    return (1_000_000, x, 10, 10, 10, 0, 1.0, 1.0)


def frames(*indices):
    return np.array(indices, dtype=np.int64)


def pair(found):
    return found.boxes, found.frame_indices


def merge(boxes, frame_indices, confidence_threshold, nms_threshold):
    return pair(merge_views(FrameBoxes(boxes, frame_indices), confidence_threshold, nms_threshold))


def test_the_stronger_of_two_overlapping_boxes_survives():
    boxes, indices = merge(rows(pseudo(10, 0.5), pseudo(11, 0.8)), frames(3, 3), 0.01, 0.45)
    assert boxes["x"].tolist() == [11]
    assert indices.tolist() == [3]


def test_classes_and_frames_do_not_suppress_each_other():
    boxes = rows(pseudo(10, 0.5, class_id=0), pseudo(10, 0.8, class_id=1), pseudo(10, 0.4))
    merged, indices = merge(boxes, frames(0, 0, 1), 0.01, 0.45)
    assert merged["class_id"].tolist() == [1, 0, 0]
    assert indices.tolist() == [0, 0, 1]


def test_the_threshold_is_on_the_product_and_inclusive_and_empty_frames_vanish():
    boxes = rows((0, 10, 10, 10, 10, 0, 0.5, 0.5), (0, 10, 10, 10, 10, 0, 0.5, 0.25))
    merged, indices = merge(boxes, frames(0, 1), 0.25, 0.45)
    assert indices.tolist() == [0]
    assert len(merged) == 1


def test_only_an_overlap_above_the_threshold_suppresses():
    # Two 10 × 10 boxes 5 apart: IoU = 50 / 150.
    boxes = rows(pseudo(10, 0.9), pseudo(15, 0.8))
    assert len(merge(boxes, frames(0, 0), 0.01, 0.34)[0]) == 2
    assert len(merge(boxes, frames(0, 0), 0.01, 0.33)[0]) == 1


def test_frames_with_ground_truth_pass_unchanged():
    boxes = rows(truth(10), truth(10), pseudo(10, 0.001))
    merged, _ = merge(boxes, frames(0, 0, 0), 0.5, 0.45)
    np.testing.assert_array_equal(merged, boxes)


def test_no_boxes_at_all():
    boxes, indices = pair(ViewCollector(5, (100, 100), -1).merged(0.01, 0.45))
    assert boxes.dtype == LABEL_DTYPE
    assert len(boxes) == len(indices) == 0
    boxes, _ = merge(rows(), frames(), 0.01, 0.45)
    assert len(boxes) == 0


def test_ground_truth_is_taken_once_and_boxes_out_of_range_are_dropped():
    collector = ViewCollector(3, (100, 100), -1)
    collector.add(rows(truth(10), pseudo(50)), frames(0, 2), PLAIN)
    collector.add(rows(truth(79), pseudo(39)), frames(0, 2), View(mirrored=True))
    # Read backwards, frame 0 shows frame -1, frame 1 shows frame 0 (again the ground truth), frame 3 shows frame 2.
    collector.add(rows(pseudo(1), truth(10), pseudo(50)), frames(0, 1, 3), TIME_REVERSED)
    boxes, indices = pair(collector.collected())
    assert indices.tolist() == [0, 2, 2, 2]
    assert boxes["x"].tolist() == [10, 50, 50, 50]
    boxes, indices = pair(collector.merged(0.01, 0.45))
    assert indices.tolist() == [0, 2]


def test_a_plain_view_alone_is_left_as_it_is():
    collector = ViewCollector(3, (100, 100), -1)
    collector.add(rows(pseudo(10, 0.001), pseudo(10, 0.9)), frames(1, 1), PLAIN)
    boxes, _ = pair(collector.merged(0.5, 0.45))
    assert len(boxes) == 2


def test_boxes_beyond_the_last_frame_are_dropped():
    collector = ViewCollector(3, (100, 100), 0)
    collector.add(rows(pseudo(10), pseudo(10)), frames(2, 3), TIME_REVERSED)
    assert collector.collected().frame_indices.tolist() == [2]
